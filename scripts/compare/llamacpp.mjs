// Times llama.cpp through node-llama-cpp; see job.mjs. The second argument is the folder that has it installed.
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gpuIndex, interval, memory, readJob, SHORT_PROMPT, serve, time, tokenIds } from './job.mjs';

const job = readJob();
const folder = join(resolve(process.argv[3]), 'node_modules', 'node-llama-cpp');
const { exports, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
const { getLlama } = await import(pathToFileURL(join(folder, exports['.'].import)).href);

const gpu = gpuIndex(job.device);
// It numbers the cards it sees from 0.
if (gpu) process.env.CUDA_VISIBLE_DEVICES = String(gpu);
const started = performance.now();
const llama = await getLlama({
  gpu: gpu === undefined ? false : 'cuda',
  build: 'never',
  usePrebuiltBinaries: true,
  maxThreads: job.threads,
  logLevel: 'error',
});
const model = await llama.loadModel({
  modelPath: job.model,
  useMmap: true,
  checkTensors: false,
  ...(gpu !== undefined && { gpuLayers: 'max' }),
});
const load = (performance.now() - started) / 1000;
const longest = Math.max(SHORT_PROMPT, ...job.prompts);
const context = await model.createContext({
  contextSize: longest + job.newTokens + 16,
  batchSize: longest,
  sequences: 1,
  threads: job.threads,
});
const sequence = context.getSequence();
const vocabSize = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
const ids = (count, seed) => tokenIds(count, seed, vocabSize);

/** Greedy; ends after `count` tokens. Every step computes the last token's logits. */
async function generate(prompt, count) {
  const tokens = [];
  const moments = [];
  for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    tokens.push(token);
    moments.push(performance.now());
    if (tokens.length === count) break;
  }
  return { tokens, moments };
}

async function answers() {
  await generate(ids(longest, 99), 2);
  const answer = {
    prefill: async ({ prefill, run }) => ({ seconds: await time(() => generate(ids(prefill, run), 1)) }),
    decode: async ({ decode }) => {
      const { tokens, moments } = await generate(ids(SHORT_PROMPT, 50), decode + 1);
      return { seconds: interval(moments), tokens };
    },
  };
  const release = llama.llamaCppRelease?.release ?? 'of unknown release';
  const name = `llama.cpp ${release} (node-llama-cpp ${version})`;
  await serve({ load, version: name, memory: memory() }, async (request) => {
    await sequence.clearHistory();
    return answer[Object.keys(request)[0]](request);
  });
}

async function first() {
  const { tokens } = await generate(ids(SHORT_PROMPT, 50), 1);
  process.stdout.write(`${tokens[0]}\n`);
}

await { serve: answers, first }[job.task]();
// Its threads would keep the process for a while.
process.exit(0);
