// Two models in one process, each called in every way at once; signals fire, loops are left and models are disposed of at random moments.
// Says in JSON what did not hold: every call settles, with what it promises or in the library's own words, and the model that stays answers
// as before.
// argv: URL of the library, folder of a model, folder for files, seed.
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';

const [, , library, folder, files, seed] = process.argv;
const { AutoModelForCausalLM, SwitchyardError } = await import(library);

let state = Number(seed) >>> 0;
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32;
}
const below = (n) => Math.floor(random() * n);

const faults = [];
const load = (signal) =>
  AutoModelForCausalLM.fromPretrained(folder, {
    ...{ threads: 1 + below(2), prefixCache: random() < 0.5 ? {} : false },
    ...(random() < 0.3 && { quantization: { experts: 'int8' } }),
    ...(signal && { signal }),
  });
const prompt = () => Array.from({ length: 1 + below(200) }, () => 5 + below(200));
const calm = { inputIds: [[5, 6, 7, 8]], maxNewTokens: 4, doSample: false };

async function later(turns) {
  for (let n = 0; n < turns; n++) await turn();
}

const stays = await AutoModelForCausalLM.fromPretrained(folder, { threads: 2, prefixCache: {} });
const right = `${(await stays.generate(calm)).sequences[0]}`;
const kept = join(files, 'kept.safetensors');
const first = stays.createCache();
await stays.generate({ ...calm, cache: first });
await first.save(kept);
first.dispose();

/** Ways to call a model; `signal` may fire at any moment. */
const CALLS = [
  (model, signal) => model.generate({ inputIds: [prompt()], maxNewTokens: 1 + below(20), signal }),
  (model) => model.forward({ inputIds: [prompt()] }),
  (model, signal) => model.promptLogprobs({ inputIds: [prompt()], signal }),
  (model, signal) => model.compile({ mode: 'max-autotune', tokenCounts: [1, 4], signal }),
  (model, signal) => model.measureExperts({ signal }),
  async (model) => {
    let left = below(6);
    for await (const _ of model.stream({ prompt: 'Once', maxNewTokens: 12 })) if (left-- === 0) break;
  },
  async (model) => {
    const cache = model.createCache();
    await model.generate({ inputIds: [prompt()], maxNewTokens: 2, cache });
    const saving = cache.save(join(files, `${below(3)}.safetensors`));
    await later(below(10));
    if (random() < 0.5) await saving;
    else await Promise.all([saving, model.generate({ inputIds: [prompt()], maxNewTokens: 2 })]);
    cache.dispose();
  },
  async (model) => (await model.loadCache(kept)).dispose(),
  async (model) => {
    const chat = await model.chat();
    for await (const _ of chat.stream('Hi', { maxNewTokens: 5 })) if (random() < 0.3) break;
  },
];

for (let round = 0; round < 4; round++) {
  const loading = new AbortController();
  const [loaded] = await Promise.allSettled([
    load(loading.signal),
    random() < 0.3 ? later(below(60)).then(() => loading.abort()) : undefined,
  ]);
  if (loaded.status === 'rejected') {
    if (!(loaded.reason instanceof SwitchyardError)) faults.push(`load: ${loaded.reason.stack}`);
    continue;
  }
  const goes = loaded.value;
  const calls = Array.from({ length: 2 + below(5) }, async () => {
    const which = below(CALLS.length);
    const controller = new AbortController();
    const model = random() < 0.3 ? stays : goes;
    if (random() < 0.5) later(below(80)).then(() => controller.abort());
    await later(below(20));
    await Promise.resolve()
      .then(() => CALLS[which](model, controller.signal))
      .catch((error) => {
        if (!(error instanceof SwitchyardError)) faults.push(`call ${which}: ${error?.stack}`);
      });
  });
  await later(below(100));
  await goes.dispose();
  await Promise.all(calls);
  const again = `${(await stays.generate(calm)).sequences[0]}`;
  if (again !== right) faults.push(`the other model says ${again} instead of ${right}`);
}
await stays.dispose();
console.log(JSON.stringify(faults));
