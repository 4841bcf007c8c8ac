// The programs compared: how each is started, and what it can be asked.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gpuIndex, RECORDED, REPACKED, SHORT_PROMPT, tokenIds } from './job.mjs';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/**
 * @returns {{ key: string, files: string, backends: (turn: number) => string[], job: (job: object) => string[], first?: (job: object) => string[],
 *   repeatsItself?: boolean }}
 */
export function switchyard({ model, vocabSize, threads, dtype, device, weights, quantization, activations }) {
  const ids = tokenIds(SHORT_PROMPT, 50, vocabSize).join(',');
  const generate = ['generate', '--model', model, '--input-ids', ids, '--max-new-tokens', '1'];
  const settings = [
    '--temperature',
    '0',
    '--ignore-eos',
    '--threads',
    String(threads),
    '--dtype',
    dtype,
    '--device',
    device,
    ...(weights ? ['--weights', weights] : []),
    ...(quantization ? ['--quantize', quantization] : []),
    ...(activations ? [activations === 'int8' ? '--int8-activations' : '--no-int8-activations'] : []),
  ];
  return {
    key: 'Switchyard',
    files: model,
    backends: () => [
      ...['grouped_mm', 'eager', 'batched_mm'],
      ...(gpuIndex(device) === undefined ? [] : [`grouped_mm${RECORDED}`]),
    ],
    job: (job) => [
      process.execPath,
      here('switchyard.mjs'),
      // No peer keeps the prompts it has read, which takes memory that was never used before.
      JSON.stringify({
        ...job,
        model,
        load: { weights, quantization, activationQuantization: activations, prefixCache: false },
      }),
    ],
    first: () => [process.execPath, cli, ...generate, ...settings],
  };
}

/** Undefined, with the reason on stderr, where it is not installed. */
export function llamaCpp({ gguf, peers }) {
  if (!gguf || !peers) return skipped('llama.cpp', 'give --gguf FILE and --peers DIR');
  const folder = join(peers, 'node_modules', 'node-llama-cpp');
  if (!existsSync(folder)) return skipped('llama.cpp', `there is no ${folder}`);
  if (!existsSync(gguf)) return skipped('llama.cpp', `there is no ${gguf}`);
  const start = (job) => [
    process.execPath,
    here('llamacpp.mjs'),
    JSON.stringify({ ...job, model: gguf }),
    peers,
  ];
  return { key: 'llama.cpp', files: gguf, backends: () => ['llama.cpp'], job: start, first: start };
}

/**
 * Undefined where no program is given. What it cannot tell, the time to the first token of a process and the tokens, is not compared.
 * @throws Error where the program does not run, or there are no weights for it
 */
export function llamaBench({ llamaBench: program, gguf }) {
  if (!program) return undefined;
  if (!gguf || !existsSync(gguf))
    throw new Error(
      `--llama-bench needs weights: --gguf is ${gguf ?? 'not given'}${gguf ? ', which is no file' : ''}`,
    );
  const { stdout, error } = spawnSync(program, ['--help'], { encoding: 'utf8' });
  if (error) throw new Error(`--llama-bench: ${program} cannot be started: ${error.message}`);
  return {
    key: 'llama-bench',
    files: gguf,
    backends: () => ['in place', ...(stdout.includes('-rtr') ? [REPACKED] : [])],
    repeatsItself: true,
    job: (job) => [
      process.execPath,
      here('llama_bench.mjs'),
      JSON.stringify({ ...job, model: gguf }),
      program,
    ],
  };
}

/** Undefined, with the reason on stderr, where no Python is given. */
export function transformers({ model, python, device }) {
  if (!python) return skipped('transformers', 'give --python PYTHON');
  const start = (job) => [python, here('transformers_peer.py'), JSON.stringify({ ...job, model })];
  return {
    key: 'transformers',
    files: model,
    // Once is enough of the one that is slower by far, on a CPU.
    backends: (turn) => [
      ...['grouped_mm', 'eager'],
      ...(turn === 0 || gpuIndex(device) !== undefined ? ['batched_mm'] : []),
    ],
    job: start,
    first: start,
  };
}

function skipped(name, reason) {
  process.stderr.write(`${name} is left out: ${reason}\n`);
  return undefined;
}
