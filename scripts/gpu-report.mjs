// Checks and measures everything of the CUDA path on a card, and writes kernels/cuda/results/<card>.md: see --help.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, type } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gpuIndex } from './compare/job.mjs';
import { warmFiles } from './compare/run-child.mjs';
import { judge } from './gpu-report/goals.mjs';
import { keep, mergeSteps, readKept } from './gpu-report/kept.mjs';
import { parseOptions, STEPS, USAGE } from './gpu-report/options.mjs';
import { findCudaProgram, killAll, lacksOf, lastWords, mustRun, run } from './gpu-report/programs.mjs';
import { gpuReport, reportName } from './gpu-report/report.mjs';
import { parseBench, parseTorch } from './gpu-report/tables.mjs';
import { bundleInnerModules } from './modules/inner.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const at = (...path) => join(root, ...path);
const BENCH = at('kernels/build/cuda/bench');
const PROMPTS = [128, 512, 4096];
/** Times to switch backends while decoding. */
const SWITCHES = 20;

/** The GPU cannot be used, or the command line is wrong. */
class Unusable extends Error {}

/** Why a step does not run: not asked for, or what it needs is not there. */
class LeftOut extends Error {}

const say = (text) => process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);

/** What `switchyard doctor` finds; it loads the CUDA library, which a process that times should not have done before. */
async function diagnose() {
  const { code, output, errors } = await run(process.execPath, [at('dist/cli/main.js'), 'doctor', '--json'], {
    quiet: true,
  });
  if (output.startsWith('{')) return JSON.parse(output);
  throw new Unusable(`switchyard doctor ended with ${code ?? 'a signal'}: ${lastWords(output, errors)}`);
}

/** Says what keeps CUDA from running here, Switchyard's kernels aside: they are about to be built. */
async function requireCuda() {
  if (!existsSync(at('dist/cli/main.js')))
    throw new Unusable('there is no dist/. Build first: npm run build');
  await bundleInnerModules();
  // A library that somebody named is theirs; what it needs shows when it is opened.
  if (process.env.SWITCHYARD_CUDA_LIBRARY) return diagnose();
  const diagnosis = await diagnose();
  const lacks = lacksOf(diagnosis);
  if (lacks.length === 0) return diagnosis;
  await run(process.execPath, [at('dist/cli/main.js'), 'doctor', '--cuda']);
  const missing = lacks.map(({ what }) => what).join('; ');
  throw new Unusable(`the GPU cannot be used; what to do about it is above. Missing: ${missing}`);
}

/** Says what keeps the device asked for from running, now that the kernels are built. */
async function requireDevice(device) {
  const diagnosis = await diagnose();
  const index = gpuIndex(device);
  const gpu = diagnosis.gpus.devices[index];
  const reason =
    diagnosis.gpus.fault ?? `GPU ${index} is not among the ${diagnosis.gpus.devices.length} found`;
  if (gpu === undefined) throw new Unusable(`the GPU cannot be used: ${reason}`);
  if (gpu.major < 8)
    throw new Unusable(
      `${gpu.name} has compute capability ${gpu.major}.${gpu.minor}; 8.0 or newer is needed`,
    );
  return { diagnosis, gpu };
}

async function build({ nvcc, minutes }) {
  const compiler = nvcc === undefined ? [] : ['--nvcc', nvcc];
  await mustRun(process.execPath, [at('scripts/build-cuda.mjs'), '--bench', ...compiler], { minutes });
}

async function sanitizer(options) {
  const program = findCudaProgram('compute-sanitizer');
  if (program === undefined) throw new LeftOut('compute-sanitizer is not installed');
  requireBench();
  await mustRun(program, ['--error-exitcode', '1', BENCH, '--quick'], {
    env: visible(options),
    minutes: options.minutes,
  });
}

async function kernels(options, results) {
  requireBench();
  const { dtype, milliseconds, minutes } = options;
  const args = ['--dtype', dtype, '--milliseconds', String(milliseconds)];
  const { code, output, errors } = await run(BENCH, args, { env: visible(options), minutes });
  results.benchText = output;
  results.bench = parseBench(output);
  if (code === 0) return;
  const wrong =
    results.bench.failures === undefined ? lastWords('', errors) : `${results.bench.failures} failures`;
  throw new Error(`the bench program ended with ${code ?? 'a signal'}: ${wrong}`);
}

async function torch(options, results) {
  if (options.python === undefined) throw new LeftOut('give --python PYTHON');
  const script = at('kernels/cuda/bench/compare_torch.py');
  const args = [script, '--milliseconds', String(options.milliseconds)];
  const { code, output, errors } = await run(options.python, args, {
    env: visible(options),
    minutes: options.minutes,
  });
  results.torchText = output;
  results.torch = parseTorch(output);
  if (code !== 0)
    throw new Error(`compare_torch.py ended with ${code ?? 'a signal'}: ${lastWords('', errors)}`);
}

async function goldens({ device, minutes }) {
  const names = ['cuda', 'gpu-models', 'gpu-media', 'gpu-quantized'];
  const files = names.map((name) => `test/engine/${name}.slow.test.ts`);
  // One file at a time: some look at how much of the card's memory is free.
  const args = ['run', '--config', at('configs/vitest.config.ts'), '--no-file-parallelism', ...files];
  const env = { SWITCHYARD_TEST_DEVICE: device };
  await mustRun(process.execPath, [at('node_modules/vitest/vitest.mjs'), ...args], {
    env,
    cwd: root,
    minutes,
  });
}

async function session({ model, device, dtype, newTokens, rounds, steps, minutes }, results) {
  await warmFiles(model);
  const job = { model, device, dtype, prompts: PROMPTS, newTokens, rounds, steps, switches: SWITCHES };
  const child = [at('scripts/gpu-report/session-child.mjs'), JSON.stringify(job)];
  const { code, output, errors } = await run(process.execPath, child, { minutes });
  const parts = output
    .split('\n')
    .filter((line) => line.startsWith('{"part"'))
    .map((line) => JSON.parse(line));
  results.session = Object.fromEntries(parts.map(({ part, ...rest }) => [part, rest]));
  const failed = parts
    .filter(({ error }) => error !== undefined)
    .map(({ part, error }) => `${part}: ${error}`);
  if (code !== 0) failed.push(`it ended with ${code ?? 'a signal'}: ${lastWords('', errors)}`);
  if (failed.length > 0) throw new Error(failed.join('; '));
}

async function transformers(options, results) {
  if (options.python === undefined) throw new LeftOut('give --python PYTHON');
  await compare('transformers', options, { python: options.python }, results);
}

async function llamacpp(options, results) {
  if (options.gguf === undefined) throw new LeftOut('give --peers DIR and --gguf FILE');
  await compare('llamacpp', options, { peers: options.peers, gguf: options.gguf }, results);
}

/** Keeps what a duel with one peer gave by its step's name, so that another that fails takes nothing with it. */
async function compare(step, options, peer, results) {
  const { model, isDemo, device, dtype, rounds, starts, newTokens, minutes, scratch } = options;
  if (isDemo) throw new LeftOut('give --model DIR');
  const json = join(scratch, 'compared.json');
  const given = { model, device, dtype, ...peer, json, rounds, starts, new: newTokens };
  const args = Object.entries(given).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const report = await mustRun(process.execPath, [at('scripts/compare.mjs'), ...args], { minutes });
  const { duels } = JSON.parse(readFileSync(json, 'utf8'));
  results.compared = { ...results.compared, [step]: { duels, report } };
  const all = Object.values(results.compared);
  results.peers = { duels: all.flatMap((one) => one.duels) };
  results.peersReport = all.map((one) => `${one.report}\n`).join('');
}

function requireBench() {
  if (!existsSync(BENCH)) throw new LeftOut(`there is no ${BENCH}; the step build makes it`);
}

/** For programs that take the first GPU they see. */
function visible({ device }) {
  const index = gpuIndex(device);
  return index > 0 ? { CUDA_VISIBLE_DEVICES: String(index) } : {};
}

/** Runs a step and says how it went; what it found is in `results`. */
async function outcomeOf(name, step, options, results) {
  if (options.skip.includes(name)) return { name, outcome: 'left out', detail: 'not asked for' };
  say(name);
  try {
    await step(options, results);
    return { name, outcome: 'passed', detail: '' };
  } catch (error) {
    const outcome = error instanceof LeftOut ? 'left out' : 'failed';
    say(`${name} ${outcome}: ${error.message}`);
    return { name, outcome, detail: error.message };
  }
}

function describeSetting({ diagnosis, gpu }, { model, dtype, isDemo }, { bench, peers: measured }) {
  const { version } = JSON.parse(readFileSync(at('package.json'), 'utf8'));
  const hellos = (measured?.duels ?? []).flatMap((duel) => Object.values(duel.hellos));
  return {
    ...{ card: gpu.name, driver: diagnosis.cuda.driverVersion, switchyard: version },
    cuda: bench?.card.match(/runtime ([\d.]+)/)?.[1] ?? diagnosis.cuda.major,
    ...{
      node: process.versions.node,
      os: `${type()} ${release()}`,
      cpu: cpus()[0]?.model.trim() ?? 'unknown CPU',
    },
    date: new Date().toISOString().slice(0, 10),
    ...{ model: basename(model), dtype, isDemo },
    versions: [...new Set(hellos.map((hello) => hello.version))].filter(
      (name) => !name.startsWith('Switchyard'),
    ),
  };
}

async function main(options) {
  await requireCuda();
  const { steps: earlier, results } = readKept(options.results);
  let steps = earlier;
  const take = async (name, step) => {
    const outcome = await outcomeOf(name, step, options, results);
    steps = mergeSteps(steps, [outcome], STEPS);
    keep(options.results, { steps, results });
  };
  await take('build', build);
  const found = await requireDevice(options.device);
  say(`card: ${found.gpu.name}`);
  const others = { sanitizer, kernels, torch, goldens, session, transformers, llamacpp };
  for (const [name, step] of Object.entries(others)) await take(name, step);
  const goals = judge(results);
  const report = gpuReport({ setting: describeSetting(found, options, results), steps, goals, results });
  const file = resolve(options.out ?? at('kernels/cuda/results', reportName(found.gpu.name)));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, report);
  for (const { goal, measured, verdict } of goals)
    process.stdout.write(`${verdict.padEnd(13)}${goal}: ${measured}\n`);
  process.stdout.write(`${file}\n`);
  const isFine =
    steps.every(({ outcome }) => outcome !== 'failed') && goals.every(({ verdict }) => verdict !== 'missed');
  return isFine ? 0 : 1;
}

function readOptions() {
  try {
    return parseOptions(process.argv.slice(2));
  } catch (error) {
    throw new Unusable(`${error.message}\n\n${USAGE}`);
  }
}

for (const signal of ['SIGINT', 'SIGTERM'])
  process.on(signal, () => {
    killAll();
    rmSync(scratch, { recursive: true, force: true });
    process.exit(130);
  });

const scratch = mkdtempSync(join(tmpdir(), 'switchyard-gpu-report-'));
try {
  const options = readOptions();
  if (options === undefined) process.stdout.write(USAGE);
  else {
    const isDemo = options.model === undefined;
    const model = resolve(options.model ?? at('configs/demo-model'));
    if (!existsSync(model)) throw new Unusable(`--model: there is no ${model}`);
    process.exitCode = await main({ ...options, model, isDemo, scratch });
  }
} catch (error) {
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = error instanceof Unusable ? 2 : 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
