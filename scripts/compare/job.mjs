// What the timing processes share. A process gets its job as JSON in its first argument.
//
// Job: { task: 'first' | 'serve' | 'vision', model, device, threads, dtype, prompts, newTokens, … }; device: cpu, cuda or cuda:N;
// Switchyard's may have options of its load besides: { load: { weights, quantization, activationQuantization } }
//   first   ends after the first token, having printed anything as soon as it was known
//   vision  prints { load, version, seconds, norm } as its last line
//   serve   loads and warms up, prints { version, load?, memory?, work? } as a line (work: { bytesPerToken, flops: { [length]: operations } }),
//           then answers every line of its input with one of its output, until the input ends:
//             { prefill: length, backend, run } → { seconds }
//             { decode: count, backend }        → { seconds, tokens?, mean? }, the median and mean between two tokens
//             { read: seconds }                 → { read, pattern } in GB/s         (Switchyard's alone; of the device's memory)
//             { multiply: seconds }             → { gigaflops }                     (Switchyard's alone)
// Lines that are not JSON are chatter. Times are in seconds, memory in bytes.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** Prompt lengths beyond this are not asked of batched_mm: transformers copies the weights of every token's experts. */
export const BATCHED_LIMIT = 128;
/**
 * A prompt is timed so many times for a measure, whose median counts, after once untimed. llama-bench does so by itself, and who has the
 * machine after another needs a moment for pages, caches and clocks; `switchyard bench` says what the first pass costs.
 */
export const REPETITIONS = 3;
/** Length of the prompt that decoding, and the first token of a process, follow on. */
export const SHORT_PROMPT = 16;

export const readJob = () => JSON.parse(process.argv[2]);

export const print = (result) => process.stdout.write(`\n${JSON.stringify(result)}\n`);

/** Answers requests in turn until the input ends. */
export async function serve(hello, answer) {
  print(hello);
  for await (const line of createInterface({ input: process.stdin })) print(await answer(JSON.parse(line)));
}

/** Made-up token ids; transformers.py has the same formula. */
export function tokenIds(count, seed, vocabSize) {
  return Array.from({ length: count }, (_, i) => (i * 6007 + seed * 1013 + 17) % vocabSize);
}

/** Backend of llama-bench for which the weights are laid out anew when they are loaded. */
export const REPACKED = 'repacked';

/** A backend of this name decodes by replaying recorded steps, which makes no difference to prompts. */
export const RECORDED = ' recorded';

/** Index of the GPU; undefined for the CPU. */
export function gpuIndex(device) {
  return device.startsWith('cuda') ? Number(device.split(':')[1] ?? 0) : undefined;
}

/** Prompt lengths that a backend of this name is asked for. */
export function promptsFor(name, prompts) {
  if (name.endsWith(RECORDED)) return [];
  return name === 'batched_mm' ? prompts.filter((tokens) => tokens <= BATCHED_LIMIT) : prompts;
}

/** Memory of this process in bytes: written by itself, and resident pages of files. */
export function memory() {
  try {
    const rollup = readFileSync('/proc/self/smaps_rollup', 'utf8');
    const field = (name) => 1024 * Number(rollup.match(new RegExp(`^${name}:\\s+(\\d+)`, 'm'))[1]);
    return { own: field('Private_Dirty'), mapped: field('Rss') - field('Anonymous') };
  } catch {
    return { own: process.memoryUsage.rss(), mapped: 0 };
  }
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Seconds that `work()` takes. */
export async function time(work) {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** Median seconds between the moments a generation's tokens came. */
export function interval(moments) {
  return median(moments.slice(1).map((moment, i) => (moment - moments[i]) / 1000));
}

/** The mean of them, in which every stall counts. */
export function meanInterval(moments) {
  return (moments.at(-1) - moments[0]) / 1000 / (moments.length - 1);
}
