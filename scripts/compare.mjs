// Times Switchyard beside transformers and llama.cpp on the same weights: each alone in a process of its own, in turn, in
// several rounds. Every timed step computes the last token's logits, and all use the same number of threads.
import { existsSync, writeFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { llamaCpp, switchyard, transformers } from './compare/peers.mjs';
import { resultOf, secondsToFirstByte, warmFiles } from './compare/run-child.mjs';
import { textReport, visionReport } from './compare/summary.mjs';

const USAGE = `Usage: node scripts/compare.mjs --model DIR [options]

  --model DIR      checkpoint; scripts/compare/make_checkpoint.py writes one of real shape
  --gguf FILE      the same weights for llama.cpp; scripts/compare/to_gguf.py converts them
  --peers DIR      folder in which node-llama-cpp is installed
  --python PYTHON  Python that has transformers, torch and safetensors
  --rounds N       rounds (3)
  --repeats N      runs of each prefill within a round (3)
  --prompt A,B     prompt lengths (128,512)
  --new N          tokens to decode (24)
  --threads N      threads of each (default: physical cores)
  --dtype NAME     precision (bfloat16)
  --vision         the vision tower of an image-text model instead of text
  --grid T,H,W     patches of its picture (1,64,64, which is 1024 × 1024 pixels)
  --out FILE.md    where to write the report as well
`;

const dist = new URL('../dist/', import.meta.url);

function readOptions() {
  const text = (value) => ({ type: 'string', ...(value === undefined ? {} : { default: value }) });
  const { values } = parseArgs({
    options: {
      ...{ model: text(), gguf: text(), peers: text(), python: text(), out: text() },
      ...{ rounds: text('3'), repeats: text('3'), prompt: text('128,512'), new: text('24') },
      ...{ threads: text(), dtype: text('bfloat16'), grid: text('1,64,64') },
      vision: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help || values.model === undefined) {
    process.stderr.write(USAGE);
    process.exit(values.help ? 0 : 2);
  }
  return values;
}

/** A list of whole numbers above zero. */
function numbers(name, value) {
  const list = value.split(',').map(Number);
  if (list.every((number) => Number.isInteger(number) && number > 0)) return list;
  throw new Error(`--${name} is ${value}; expected whole numbers above zero, separated by commas`);
}

async function readSettings(values) {
  if (!existsSync(dist)) throw new Error('There is no dist/. Build first: npm run build');
  const { defaultThreads } = await import(new URL('runtime/threads.js', dist));
  const { AutoConfig } = await import(new URL('index.js', dist));
  const model = resolve(values.model);
  const { architecture, parsed } = await AutoConfig.fromPretrained(model);
  return {
    ...{ model, gguf: values.gguf, peers: values.peers, python: values.python, dtype: values.dtype },
    rounds: numbers('rounds', values.rounds)[0],
    repeats: numbers('repeats', values.repeats)[0],
    newTokens: numbers('new', values.new)[0],
    prompts: numbers('prompt', values.prompt),
    threads: values.threads === undefined ? defaultThreads() : numbers('threads', values.threads)[0],
    grid: numbers('grid', values.grid),
    text: architecture.text(parsed),
    vocabSize: architecture.text(parsed).vocab_size,
  };
}

function say(text) {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);
}

async function measureMachine(settings) {
  const [command, ...args] = switchyard(settings).job({
    task: 'machine',
    threads: settings.threads,
    dtype: settings.dtype,
  });
  return resultOf(command, args);
}

async function textRound(round, contestants, settings) {
  const { threads, dtype, prompts, newTokens, repeats } = settings;
  const base = { threads, dtype, prompts, newTokens, repeats };
  const peers = {};
  say(`round ${round + 1}: machine`);
  const machine = await measureMachine(settings);
  for (const peer of contestants) {
    say(`round ${round + 1}: ${peer.key}, first token`);
    await warmFiles(peer.files);
    const [program, ...rest] = peer.first({ ...base, task: 'first' });
    peers[peer.key] = { first: await secondsToFirstByte(program, rest) };
  }
  for (const peer of contestants) {
    say(`round ${round + 1}: ${peer.key}, prefill and decode`);
    await warmFiles(peer.files);
    const [program, ...rest] = peer.job({ ...base, task: 'text', backends: peer.backends(round) });
    peers[peer.key].text = await resultOf(program, rest);
  }
  say(`round ${round + 1}: machine`);
  const again = await measureMachine(settings);
  const reads = [machine, again, ...peers.Switchyard.text.reads];
  const { read, pattern } = reads.reduce((best, next) => (next.read > best.read ? next : best));
  const gigaflops = Math.max(machine.gigaflops, again.gigaflops);
  return { machine: { read, pattern, gigaflops }, peers };
}

async function compareText(settings) {
  const contestants = [switchyard(settings), llamaCpp(settings), transformers(settings)].filter(Boolean);
  const rounds = [];
  for (let round = 0; round < settings.rounds; round++)
    rounds.push(await textRound(round, contestants, settings));
  return textReport(rounds, { ...settings, model: basename(settings.model), ...(await countWork(settings)) });
}

/** What a token costs, as `switchyard bench` counts it. */
async function countWork({ model, text, prompts }) {
  const { weightWork, bytesPerDecodedToken, prefillFlops } = await import(new URL('bench/work.js', dist));
  const { resolveRepo } = await import(new URL('hub/resolve-repo.js', dist));
  const { openCheckpoint } = await import(new URL('safetensors/checkpoint.js', dist));
  const { tensors } = await openCheckpoint(await resolveRepo(model, {}));
  const work = weightWork(tensors.values(), text);
  return {
    bytesPerToken: bytesPerDecodedToken(work),
    flops: Object.fromEntries(prompts.map((tokens) => [tokens, prefillFlops(tokens, work, text)])),
  };
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
      const [program, ...rest] = peer.job({ task: 'vision', threads, dtype, grid, repeats });
      peers[peer.key] = { vision: await resultOf(program, rest) };
    }
    rounds.push({ peers });
  }
  return visionReport(rounds, { ...settings, model: basename(settings.model) });
}

try {
  const values = readOptions();
  const settings = await readSettings(values);
  const report = await (values.vision ? compareVision(settings) : compareText(settings));
  process.stdout.write(report);
  if (values.out) writeFileSync(values.out, report);
} catch (error) {
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = 1;
}
