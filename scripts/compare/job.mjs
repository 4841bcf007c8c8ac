// What the timing processes share. A process gets its job as JSON in its first argument and prints its result as the last
// line of its output, as JSON.
//
// Job: { task: 'text' | 'first' | 'vision' | 'machine', model, threads, dtype, prompts, newTokens, repeats, backends }
//   text    → { load, version, backends: [{ name, prefill: { length: seconds }, decode, tokens }], memory };
//             Switchyard's also has reads: [{ read, pattern }], in GB/s, taken beside its decoding
//   first   → any output as soon as the first token is known
//   vision  → { load, version, seconds, norm }
//   machine → { read, pattern, gigaflops }                  Times are in seconds, memory in bytes.
import { readFileSync } from 'node:fs';

/** Prompt lengths beyond this are not asked of batched_mm: transformers copies the weights of every token's experts. */
export const BATCHED_LIMIT = 128;
/** Length of the prompt that decoding, and the first token of a process, follow on. */
export const SHORT_PROMPT = 16;

export const readJob = () => JSON.parse(process.argv[2]);

export const print = (result) => process.stdout.write(`\n${JSON.stringify(result)}\n`);

/** Made-up token ids; transformers.py has the same formula. */
export function tokenIds(count, seed, vocabSize) {
  return Array.from({ length: count }, (_, i) => (i * 6007 + seed * 1013 + 17) % vocabSize);
}

/** Prompt lengths that a backend of this name is asked for. */
export function promptsFor(name, prompts) {
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

/** Median seconds of `repeats` runs of `work(run)`, each after `before()`, which is not timed. */
export async function time(repeats, work, before = () => {}) {
  const seconds = [];
  for (let run = 0; run < repeats; run++) {
    await before();
    const started = performance.now();
    await work(run);
    seconds.push((performance.now() - started) / 1000);
  }
  return median(seconds);
}

/** Median seconds between the moments a generation's tokens came. */
export function interval(moments) {
  return median(moments.slice(1).map((moment, i) => (moment - moments[i]) / 1000));
}
