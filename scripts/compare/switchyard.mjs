// Times Switchyard; see job.mjs.
import { readFileSync } from 'node:fs';
import { AutoModelForCausalLM, AutoModelForImageTextToText } from '../../dist/index.js';
import { measureFlops, measureReadBandwidth } from '../../dist/runtime/machine.js';
import { interval, memory, print, promptsFor, readJob, SHORT_PROMPT, time, tokenIds } from './job.mjs';

const job = readJob();
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

async function load(auto) {
  const started = performance.now();
  const model = await auto.fromPretrained(job.model, { dtype: job.dtype, threads: job.threads });
  return { model, load: (performance.now() - started) / 1000 };
}

/**
 * Touches the weights of all experts: who maps files pays for each page once. The last layer sees only the last token of a
 * prompt, so there are many short ones.
 */
async function warmUp(model, longest) {
  await generate(model, tokenIds(longest, 98, model.vocabSize), 2);
  for (let batch = 0; batch < 8; batch++) {
    const inputIds = Array.from({ length: 32 }, (_, row) => tokenIds(2, 32 * batch + row, model.vocabSize));
    await model.generate({ inputIds, maxNewTokens: 1, doSample: false, eosTokenId: [] });
  }
}

/** Greedy, with no end token; resolves to the new tokens and the moments they came. */
async function generate(model, prompt, maxNewTokens, expertsImplementation) {
  const tokens = [];
  const moments = [];
  let calls = 0;
  const streamer = {
    put([id]) {
      // The first call brings the prompt.
      if (calls++ === 0) return;
      tokens.push(id);
      moments.push(performance.now());
    },
    end() {},
  };
  const options = { maxNewTokens, doSample: false, eosTokenId: [], streamer, expertsImplementation };
  await model.generate({ inputIds: [prompt], ...options });
  return { tokens, moments };
}

async function text() {
  const { model, load: seconds } = await load(AutoModelForCausalLM);
  const backends = [];
  let used;
  const reads = [];
  await warmUp(model, Math.max(SHORT_PROMPT, ...job.prompts));
  for (const name of job.backends) {
    const ids = (count, seed) => tokenIds(count, seed, model.vocabSize);
    const lengths = promptsFor(name, job.prompts);
    const prefill = {};
    await generate(model, ids(Math.max(SHORT_PROMPT, ...lengths), 99), 2, name);
    for (const count of lengths)
      prefill[count] = await time(job.repeats, (run) => generate(model, ids(count, run), 1, name));
    // Right beside the first backend's decoding, which is judged by it.
    if (!used) reads.push(await readRate(0.5));
    const { tokens, moments } = await generate(model, ids(SHORT_PROMPT, 50), job.newTokens + 1, name);
    if (!used) reads.push(await readRate(0.5));
    backends.push({ name, prefill, decode: interval(moments), tokens });
    used ??= memory();
  }
  print({ load: seconds, version: `Switchyard ${version}`, backends, memory: used, reads });
  await model.dispose();
}

async function vision() {
  const { model, load: seconds } = await load(AutoModelForImageTextToText);
  // The tower alone is no part of the public interface.
  const tower = model.parts.vision;
  const values = tower.config.in_channels * tower.config.temporal_patch_size * tower.config.patch_size ** 2;
  const [frames, height, width] = job.grid;
  const pixels = Float32Array.from(
    { length: frames * height * width * values },
    (_, i) => ((i * 7) % 256) / 128 - 1,
  );
  const run = () => tower.features(pixels, [job.grid]);
  const { embeds } = await run();
  const norm = Math.sqrt(embeds.reduce((sum, value) => sum + value * value, 0));
  print({ load: seconds, version: `Switchyard ${version}`, seconds: await time(job.repeats, run), norm });
  await model.dispose();
}

async function readRate(seconds) {
  const { gigabytesPerSecond: read, pattern } = await measureReadBandwidth({ threads: job.threads, seconds });
  return { read, pattern };
}

async function machine() {
  const precision = job.dtype === 'bfloat16' ? 'bfloat16' : 'float32';
  const gigaflops = await measureFlops(precision, { threads: job.threads, seconds: 1 });
  print({ ...(await readRate(1)), gigaflops });
}

await { text, vision, machine }[job.task]();
