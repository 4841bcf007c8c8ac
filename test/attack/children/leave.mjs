// Works with a model until it leaves, in the way and after the ms that it is told.
// argv: URL of the library, folder of a model, what to do, how to leave, when.
import { setTimeout as sleep } from 'node:timers/promises';

const [, , library, folder, busy, way, pause] = process.argv;
const { AutoModelForCausalLM } = await import(library);
const load = () => AutoModelForCausalLM.fromPretrained(folder, { threads: 2 });
const inputs = { inputIds: [[1, 2, 3]] };
const WORK = {
  load: async () => (await load()).dispose(),
  dispose: async () => {
    const model = await load();
    model.generate({ ...inputs, maxNewTokens: 50 }).catch(() => {});
    await model.dispose();
  },
};
const kept = busy in WORK ? undefined : await load();
WORK.generate = () => kept.generate({ ...inputs, maxNewTokens: 50 });
WORK.forward = () => kept.forward(inputs);
WORK.compile = () => kept.compile({ mode: 'max-autotune', tokenCounts: [1, 2] });

let left = false;
async function work() {
  while (!left) {
    await WORK[busy]();
    // Work that was done before may be over without a turn of the event loop.
    await new Promise(setImmediate);
  }
}
const LEAVE = {
  exit: () => process.exit(7),
  return: () => {
    left = true;
  },
  throw: () => {
    setImmediate(() => {
      throw new Error('thrown on purpose');
    });
  },
  reject: () => {
    Promise.reject(new Error('rejected on purpose'));
  },
};
const working = work();
await sleep(Number(pause));
LEAVE[way]?.();
await working;
