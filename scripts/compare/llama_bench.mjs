// Times llama.cpp, or ik_llama.cpp, by its own llama-bench; see job.mjs. The second argument is the program. It ends after every measure, so
// each is a process of its own: what it does first, which maps the pages, is not in the median of its repetitions.
import { gpuIndex, median, REPACKED, REPETITIONS, readJob, serve } from './job.mjs';
import { outputOf } from './run-child.mjs';

const job = readJob();
const program = process.argv[3];

/** One test of llama-bench: what it says of it, times in nanoseconds. */
async function test(backend, prompt, newTokens) {
  const gpu = gpuIndex(job.device);
  const output = await outputOf(program, [
    ...['-m', job.model, '-t', String(job.threads), '-p', String(prompt), '-n', String(newTokens)],
    ...['-r', String(REPETITIONS), '-o', 'json'],
    ...(gpu === undefined ? ['-ngl', '0'] : ['-mg', String(gpu)]),
    ...(backend === REPACKED ? ['-rtr', '1'] : []),
  ]);
  return JSON.parse(output)[0];
}

const seconds = ({ samples_ns: times }) => median(times) / 1e9;
const { build_commit: commit } = await test(undefined, 1, 0);

await serve({ version: `llama-bench ${commit}` }, async ({ prefill, decode, backend }) =>
  prefill !== undefined
    ? { seconds: seconds(await test(backend, prefill, 0)) }
    : { seconds: seconds(await test(backend, 0, decode)) / decode },
);
