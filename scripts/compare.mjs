// Times Switchyard beside transformers, llama.cpp and ik_llama.cpp on the same weights. Switchyard and one of the others are loaded at the
// same time, each in a process of its own, and take turns at every measure, so that both meet the machine in the same mood.
// Every timed step computes the last token's logits, and all use the same number of threads.
import { existsSync, writeFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { gpuIndex, median, promptsFor, REPETITIONS } from './compare/job.mjs';
import { llamaBench, llamaCpp, switchyard, transformers } from './compare/peers.mjs';
import { resultOf, Server, secondsToFirstByte, warmFiles } from './compare/run-child.mjs';
import { OURS, textReport, visionReport } from './compare/summary.mjs';
import { bundleInnerModules } from './modules/inner.mjs';

const USAGE = `Usage: node scripts/compare.mjs --model DIR [options]

  --model DIR      checkpoint; scripts/compare/make_checkpoint.py writes one of real shape
  --gguf FILE      the same weights for llama.cpp; scripts/compare/to_gguf.py converts them
  --peers DIR      folder in which node-llama-cpp is installed
  --llama-bench P  program of llama.cpp or ik_llama.cpp, to be timed on the same weights, also with them repacked if it can
  --python PYTHON  Python that has transformers, torch and safetensors
  --rounds N       turns each takes at every measure (5)
  --starts N       process starts, each timed to the first token (3)
  --repeats N      runs of the vision tower within a round (3)
  --prompt A,B     prompt lengths (128,512)
  --new N          tokens to decode (24)
  --threads N      threads of each (default: physical cores)
  --dtype NAME     precision (bfloat16)
  --weights W      mapped or packed, of Switchyard (mapped)
  --quantization Q int8, int4 or another plan by which Switchyard rounds the weights, to be set beside a quantized --gguf
  --activations A  int8 or none: whether those that meet such weights are rounded too, as llama.cpp always does (int8)
  --device D       cpu, cuda or cuda:N, for all of them (cpu)
  --vision         the vision tower of an image-text model instead of text
  --grid T,H,W     patches of its picture (1,64,64, which is 1024 × 1024 pixels)
  --out FILE.md    where to write the report as well, after every turn
  --json FILE      where to write what was measured, likewise
`;

const inner = new URL('../dist-scripts/', import.meta.url);
/** How long the machine's read and multiplication rates are measured after each decoding. */
const READ_SECONDS = 0.4;
/** How often the read rate is; the best counts. */
const READS = 2;

function readOptions() {
  const text = (value) => ({ type: 'string', ...(value === undefined ? {} : { default: value }) });
  const { values } = parseArgs({
    options: {
      ...{ model: text(), gguf: text(), peers: text(), python: text(), out: text(), json: text() },
      ...{ 'llama-bench': text(), weights: text(), quantization: text(), activations: text() },
      ...{
        rounds: text('5'),
        starts: text('3'),
        repeats: text('3'),
        prompt: text('128,512'),
        new: text('24'),
      },
      ...{ threads: text(), dtype: text('bfloat16'), device: text('cpu'), grid: text('1,64,64') },
      vision: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help || values.model === undefined) {
    process.stderr.write(USAGE);
    process.exit(values.help ? 0 : 2);
  }
  if (!/^(cpu|cuda(:\d+)?)$/.test(values.device))
    throw new Error(`--device is ${values.device}; expected cpu, cuda or cuda:N`);
  if (values.vision && values.device !== 'cpu') throw new Error('--vision compares on the CPU only');
  return values;
}

/** A list of whole numbers above zero. */
function numbers(name, value) {
  const list = value.split(',').map(Number);
  if (list.every((number) => Number.isInteger(number) && number > 0)) return list;
  throw new Error(`--${name} is ${value}; expected whole numbers above zero, separated by commas`);
}

async function readSettings(values) {
  if (!existsSync(new URL('../dist/', import.meta.url)))
    throw new Error('There is no dist/. Build first: npm run build');
  await bundleInnerModules();
  const { defaultThreads } = await import(new URL('runtime/threads.js', inner));
  const { resolveRepo } = await import(new URL('hub/repo/resolve-repo.js', inner));
  const { loadConfig } = await import(new URL('auto/load-config.js', inner));
  const model = resolve(values.model);
  const loaded = await loadConfig(await resolveRepo(model, {}));
  return {
    ...{ model, gguf: values.gguf, peers: values.peers, python: values.python, dtype: values.dtype },
    ...{ llamaBench: values['llama-bench'], out: values.out, json: values.json },
    ...{ weights: values.weights, quantization: values.quantization, activations: values.activations },
    device: values.device,
    rounds: numbers('rounds', values.rounds)[0],
    starts: numbers('starts', values.starts)[0],
    repeats: numbers('repeats', values.repeats)[0],
    newTokens: numbers('new', values.new)[0],
    prompts: numbers('prompt', values.prompt),
    threads: values.threads === undefined ? defaultThreads() : numbers('threads', values.threads)[0],
    grid: numbers('grid', values.grid),
    vocabSize: loaded.model.vocabSize,
  };
}

function say(text) {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);
}

/** A job for the timing processes; see compare/job.mjs. */
function jobOf(task, { device, threads, dtype, prompts, newTokens }) {
  return { task, device, threads, dtype, prompts, newTokens };
}

/** Seconds from process start to first token, of each peer in turn. */
async function timeStarts(contestants, { starts, ...settings }) {
  const seconds = Object.fromEntries(contestants.map(({ key }) => [key, []]));
  for (let start = 0; start < starts; start++) {
    for (const { key, files, first } of contestants) {
      say(`start ${start + 1}: ${key}`);
      await warmFiles(files);
      const [program, ...rest] = first(jobOf('first', settings));
      seconds[key].push(await secondsToFirstByte(program, rest));
    }
  }
  return seconds;
}

/** Loads the contestants together and lets them take turns. `keep` gets what they have shown so far after each. */
async function duel(contestants, settings, keep) {
  const { rounds } = settings;
  const servers = {};
  try {
    for (const { key, files, job } of contestants) {
      say(`${key}: load`);
      await warmFiles(files);
      const [program, ...rest] = job(jobOf('serve', settings));
      servers[key] = await Server.start(program, rest);
    }
    const hellos = Object.fromEntries(Object.entries(servers).map(([key, { hello }]) => [key, hello]));
    const turns = [];
    for (let turn = 0; turn < rounds; turn++) {
      say(`turn ${turn + 1}`);
      turns.push(await takeTurn(turn, contestants, servers, settings));
      keep({ hellos, turns });
    }
    for (const server of Object.values(servers)) await server.stop();
  } finally {
    for (const server of Object.values(servers)) server.kill();
  }
}

/** Where the files were asked for. A run of half an hour that is stopped leaves what it had measured. */
function write({ measured, report }, { out, json }) {
  if (out) writeFileSync(out, report);
  if (json) writeFileSync(json, JSON.stringify(measured));
}

/** One pass over all measures. Whoever goes first finds the machine least ready, so peers and their backends take turns at that, too. */
async function takeTurn(turn, contestants, servers, { prompts, newTokens, device }) {
  const order = turn % 2 === 0 ? contestants : contestants.toReversed();
  const results = Object.fromEntries(
    contestants.map(({ key, backends }) => [
      key,
      rotated(backends(turn), turn).map((name) => ({ name, prefill: {} })),
    ]),
  );
  for (const length of prompts) {
    for (const { key, repeatsItself } of order) {
      for (const result of results[key]) {
        if (!promptsFor(result.name, prompts).includes(length)) continue;
        const request = { prefill: length, backend: result.name };
        result.prefill[length] = await timePrefill(servers[key], request, turn, repeatsItself);
      }
    }
  }
  for (const { key } of order) {
    for (const result of results[key]) {
      const { seconds, tokens } = await servers[key].ask({ decode: newTokens, backend: result.name });
      Object.assign(result, { decode: seconds, tokens });
    }
  }
  // After all of them: giving back what was read slows the next tokens down, of whoever has them.
  const reads = [];
  for (let i = 0; i < READS; i++) reads.push(await servers[OURS.peer].ask({ read: READ_SECONDS }));
  const onCpu = gpuIndex(device) === undefined;
  const { gigaflops } = onCpu ? await servers[OURS.peer].ask({ multiply: READ_SECONDS }) : {};
  const { read, pattern } = reads.reduce((best, next) => (next.read > best.read ? next : best));
  return { results, machine: { read, pattern, gigaflops } };
}

/** The list from another place on each turn; in the first one as it is. */
function rotated(list, turn) {
  const first = turn % list.length;
  return [...list.slice(first), ...list.slice(0, first)];
}

/** Seconds of a prompt, whose tokens are others each time. */
async function timePrefill(server, request, turn, repeatsItself) {
  const ask = async (repetition) => {
    const { seconds } = await server.ask({ ...request, run: turn * (REPETITIONS + 1) + repetition });
    return seconds;
  };
  if (repeatsItself) return ask(0);
  const seconds = [];
  for (let repetition = 0; repetition <= REPETITIONS; repetition++) seconds.push(await ask(repetition));
  return median(seconds.slice(1));
}

async function compareText(settings) {
  const ours = switchyard(settings);
  const others = [llamaCpp(settings), llamaBench(settings), transformers(settings)].filter(Boolean);
  const starts = await timeStarts(
    [ours, ...others].filter(({ first }) => first !== undefined),
    settings,
  );
  const duels = [];
  const pairs = others.length === 0 ? [[ours]] : others.map((other) => [ours, other]);
  for (const [i, pair] of pairs.entries()) {
    await duel(pair, settings, (soFar) => {
      duels[i] = soFar;
      write(textResult(starts, duels, settings), settings);
    });
  }
  return textResult(starts, duels, settings);
}

function textResult(starts, duels, settings) {
  const { device, dtype, threads, prompts, newTokens } = settings;
  const { work: counted } = duels[0].hellos[OURS.peer];
  const { weights, quantization, activations } = settings;
  const model = [basename(settings.model), weights, quantization, activations && `${activations} activations`]
    .filter(Boolean)
    .join(', ');
  const work = { model, device, dtype, threads, prompts, newTokens, ...counted };
  const measured = { starts, duels, work };
  return { measured, report: textReport(measured, work) };
}

async function compareVision(settings) {
  const contestants = [switchyard(settings), transformers(settings)].filter(Boolean);
  const { threads, dtype, grid, repeats } = settings;
  const rounds = [];
  for (let round = 0; round < settings.rounds; round++) {
    const peers = {};
    for (const peer of contestants) {
      say(`round ${round + 1}: ${peer.key}, vision tower`);
      await warmFiles(peer.files);
      const [program, ...rest] = peer.job({ task: 'vision', device: 'cpu', threads, dtype, grid, repeats });
      peers[peer.key] = { vision: await resultOf(program, rest) };
    }
    rounds.push({ peers });
    write(visionResult(rounds, settings), settings);
  }
  return visionResult(rounds, settings);
}

function visionResult(rounds, settings) {
  const report = visionReport(rounds, { ...settings, model: basename(settings.model) });
  return { measured: { rounds }, report };
}

try {
  const values = readOptions();
  const settings = await readSettings(values);
  const { report } = await (values.vision ? compareVision(settings) : compareText(settings));
  process.stdout.write(report);
} catch (error) {
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = 1;
}
