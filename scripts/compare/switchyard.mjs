// Times Switchyard; see job.mjs.
import { readFileSync } from 'node:fs';
import { bytesPerDecodedToken, prefillFlops, weightWork } from '../../dist-scripts/bench/work.js';
import { AutoModelForCausalLM, AutoModelForImageTextToText } from '../../dist-scripts/index.js';
import { parseQuantization } from '../../dist-scripts/quantize/scheme.js';
import { Device } from '../../dist-scripts/runtime/device.js';
import { measureFlops, measureReadBandwidth } from '../../dist-scripts/runtime/machine.js';
import {
  gpuIndex,
  interval,
  meanInterval,
  median,
  memory,
  print,
  RECORDED,
  readJob,
  SHORT_PROMPT,
  serve,
  time,
  tokenIds,
} from './job.mjs';

const job = readJob();
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

/** Options of its own load; a plan of quantization is written as on the command line. */
function loadOptions() {
  const { quantization, ...rest } = job.load ?? {};
  return quantization ? { ...rest, quantization: parseQuantization(quantization) } : rest;
}

async function load(auto) {
  const started = performance.now();
  const model = await auto.fromPretrained(job.model, {
    dtype: job.dtype,
    threads: job.threads,
    device: job.device,
    ...loadOptions(),
  });
  return { model, load: (performance.now() - started) / 1000 };
}

/**
 * Touches the weights of all experts: who maps files pays for each page once. The last layer sees only the last token of a
 * prompt, so there are many short ones.
 */
async function warmUp(model, longest) {
  for (const backend of ['eager', 'batched_mm', 'grouped_mm'])
    await generate(
      model,
      tokenIds(backend === 'batched_mm' ? SHORT_PROMPT : longest, 98, model.vocabSize),
      2,
      backend,
    );
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

/** Bytes a second that the memory in use gives, in 1e9, and how. */
async function readRate(seconds) {
  const index = gpuIndex(job.device);
  if (index === undefined) {
    const { gigabytesPerSecond, pattern } = await measureReadBandwidth({ threads: job.threads, seconds });
    return { read: gigabytesPerSecond, pattern };
  }
  const gpu = await Device.open(index);
  const read = await gpu.measureCopyRate();
  await gpu.dispose();
  return { read, pattern: 'copies within its memory, read and written bytes counted' };
}

/** What a token costs, as `switchyard bench` counts it. */
function workOf(model) {
  const { weights, work } = model.stored();
  const sorted = weightWork(weights, work);
  return {
    bytesPerToken: bytesPerDecodedToken(sorted),
    flops: Object.fromEntries(job.prompts.map((tokens) => [tokens, prefillFlops(tokens, sorted)])),
  };
}

async function answers() {
  const { model, load: seconds } = await load(AutoModelForCausalLM);
  await warmUp(model, Math.max(SHORT_PROMPT, ...job.prompts));
  const ids = (count, seed) => tokenIds(count, seed, model.vocabSize);
  const answer = {
    prefill: async ({ prefill, backend, run }) => ({
      seconds: await time(() => generate(model, ids(prefill, run), 1, backend)),
    }),
    decode: async ({ decode, backend }) => {
      const isRecorded = backend.endsWith(RECORDED);
      const name = isRecorded ? backend.slice(0, -RECORDED.length) : backend;
      await model.compile({ mode: isRecorded ? 'reduce-overhead' : 'default' });
      const { tokens, moments } = await generate(model, ids(SHORT_PROMPT, 50), decode + 1, name);
      return { seconds: interval(moments), mean: meanInterval(moments), tokens };
    },
    read: ({ read }) => readRate(read),
    multiply: async ({ multiply }) => {
      const precision = job.dtype === 'bfloat16' ? 'bfloat16' : 'float32';
      return { gigaflops: await measureFlops(precision, { threads: job.threads, seconds: multiply }) };
    },
  };
  const { device } = model.executionStats;
  const where = device === 'cpu' ? '' : ` on ${device}`;
  const hello = {
    load: seconds,
    version: `Switchyard ${version}${where}`,
    memory: memory(),
    work: workOf(model),
  };
  await serve(hello, (request) => answer[Object.keys(request)[0]](request));
  await model.dispose();
}

async function vision() {
  const { model, load: seconds } = await load(AutoModelForImageTextToText);
  // The tower alone is no part of the public interface.
  const { vision: tower, model: architecture } = model.parts;
  const { patchValues: values } = architecture.media;
  const [frames, height, width] = job.grid;
  const pixels = Float32Array.from(
    { length: frames * height * width * values },
    (_, i) => ((i * 7) % 256) / 128 - 1,
  );
  const run = () => tower.features(pixels, [job.grid]);
  const { embeds } = await run();
  const norm = Math.sqrt(embeds.reduce((sum, value) => sum + value * value, 0));
  const times = [];
  for (let i = 0; i < job.repeats; i++) times.push(await time(run));
  print({ load: seconds, version: `Switchyard ${version}`, seconds: median(times), norm });
  await model.dispose();
}

await { serve: answers, vision }[job.task]();
