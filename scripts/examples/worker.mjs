// A model in a worker thread, so that the main thread only passes text on.
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { AutoModelForCausalLM, DEMO_MODEL } from 'moe-switchyard';

if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { workerData: 'In the beginning' });
  worker.on('message', (text) => process.stdout.write(text));
  worker.on('exit', () => console.log());
} else {
  const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
  for await (const text of model.stream({ prompt: workerData, maxNewTokens: 24 }))
    parentPort.postMessage(text);
  await model.dispose();
}
