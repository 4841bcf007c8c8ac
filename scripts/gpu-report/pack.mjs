#!/usr/bin/env node
// Makes a folder with everything that checks and measures a GPU on a machine without network and without tools: see --help.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { pruneFatBinaries } from './fat-binary.mjs';
import { packedFiles } from './packed-files.mjs';

const USAGE = `Usage: npm run pack:gpu -- --onnxruntime DIR --out DIR [options]

Makes a folder that checks and measures Switchyard on a Linux x64 machine that has an NVIDIA GPU, CUDA 13, Python with PyTorch, Node and
xz, but neither network nor compilers: there, run.sh unpacks it and makes the report of npm run report:gpu, in one call or in several.

  --onnxruntime DIR  ONNX Runtime for CUDA 13: libonnxruntime.so.1, libonnxruntime_providers_cuda.so and
                     libonnxruntime_providers_shared.so
  --out DIR          gets the folder; must not exist, or be empty
  --arch A,B         compute capabilities to measure on (80,90a)
  --nvcc FILE        the compiler, where build-cuda.mjs would not find it

It builds the kernels, and needs npm run build before it, and nvcc, xz and zstd. Of ONNX Runtime's CUDA provider it keeps the code for --arch, and
of that only ONNX's own operators: of 32 MB for a capability, 28 MB are attention and experts of ONNX Runtime's own, which no graph
of Switchyard has. Without zstd these stay, and the folder of both capabilities outgrows the 60 MiB that are easily carried.
`;
/** What is easily carried to a machine. */
const MOST_BYTES = 60 * 2 ** 20;
const PROVIDER = 'libonnxruntime_providers_cuda.so';
const ENGINE = ['libonnxruntime.so.1', 'libonnxruntime_providers_shared.so', PROVIDER];
const root = fileURLToPath(new URL('../..', import.meta.url));

/** The command line is wrong, or something is not there. */
class Unusable extends Error {}

const say = (text) => process.stderr.write(`${text}\n`);

function readOptions() {
  const text = { type: 'string' };
  const { values } = parseArgs({
    options: {
      ...{ onnxruntime: text, out: text, nvcc: text, arch: { ...text, default: '80,90a' } },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  for (const name of ['onnxruntime', 'out'])
    if (values[name] === undefined) throw new Unusable(`--${name} DIR is missing\n\n${USAGE}`);
  if (!/^\d+[a-z]?(,\d+[a-z]?)*$/.test(values.arch))
    throw new Unusable(`--arch is ${values.arch}; expected compute capabilities such as 80,90a`);
  const engine = resolve(values.onnxruntime);
  const missing = ENGINE.filter((name) => !existsSync(join(engine, name)));
  if (missing.length > 0) throw new Unusable(`--onnxruntime: ${engine} has no ${missing.join(', no ')}`);
  const out = resolve(values.out);
  if (existsSync(out) && readdirSync(out).length > 0) throw new Unusable(`--out: ${out} is not empty`);
  return { ...values, engine, out };
}

function run(command, args, options) {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'], ...options });
  if (error) throw new Unusable(`${command} cannot be started: ${error.message}; install it`);
  if (status !== 0) throw new Unusable(`${command} ended with ${status ?? 'a signal'}`);
}

/** Compresses files of a folder; libraries repeat themselves over many megabytes. */
function compress(folder, files, archive, scratch) {
  const list = join(scratch, 'files');
  writeFileSync(list, files.join('\n'));
  const tar = join(scratch, 'files.tar');
  run('tar', [
    '--create',
    '--file',
    tar,
    '--owner=0',
    '--group=0',
    '-C',
    folder,
    '--verbatim-files-from',
    '-T',
    list,
  ]);
  run('xz', ['--threads=1', '--lzma2=preset=6,dict=64MiB', '--force', tar]);
  copyFileSync(`${tar}.xz`, archive);
  rmSync(`${tar}.xz`);
}

/** Payload of a fat binary, which zstd has compressed; undefined where there is no zstd. */
function unpack(payload) {
  const { status, stdout } = spawnSync('zstd', ['-dcq'], { input: payload, maxBuffer: 2 ** 30 });
  return status === 0 ? stdout : undefined;
}

/** Whether a source of the provider has kernels of ONNX's operators, or of none that is known to be ONNX Runtime's own. */
const OWN = /onnxruntime(5flash|3llm|7contrib)|^_ZN7cutlass|^_ZN9fused_moe|attention_kernel_batched_impl/;
const isWanted = (names) =>
  names.some((name) => name.startsWith('_ZN11onnxruntime4cuda')) || !names.some((name) => OWN.test(name));

/** Copies the engine's libraries, with what cards of other architectures need zeroed. */
function prepareEngine(engine, architectures, folder) {
  for (const name of ENGINE) copyFileSync(join(engine, name), join(folder, name));
  const file = join(folder, PROVIDER);
  const bytes = readFileSync(file);
  const { keptBytes, zeroedBytes, unwanted } = pruneFatBinaries(bytes, architectures, { isWanted, unpack });
  chmodSync(file, 0o755);
  writeFileSync(file, bytes);
  say(`${PROVIDER}: ${megabytes(keptBytes)} of code for GPUs kept, ${megabytes(zeroedBytes)} zeroed`);
  if (unwanted === 0)
    say(`${PROVIDER}: its kernels have no names that can be read (zstd?), so all of them stay`);
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function tellSize(out) {
  const sizes = readdirSync(out).map((name) => [name, statSync(join(out, name)).size]);
  for (const [name, size] of sizes) say(`${name.padEnd(12)}${megabytes(size).padStart(10)}`);
  const bytes = sizes.reduce((sum, [, size]) => sum + size, 0);
  const mebibytes = (bytes / 2 ** 20).toFixed(1);
  say(`${out}: ${mebibytes} MiB`);
  if (bytes > MOST_BYTES)
    say(
      `warning: that is more than ${MOST_BYTES / 2 ** 20} MiB; --arch with one capability makes it smaller`,
    );
}

function pack({ engine, out, arch, nvcc }) {
  const compiler = nvcc === undefined ? [] : ['--nvcc', nvcc];
  run(process.execPath, [join(root, 'scripts/build-cuda.mjs'), '--bench', '--arch', arch, ...compiler]);
  const files = packedFiles(root);
  const scratch = mkdtempSync(join(tmpdir(), 'switchyard-pack-'));
  try {
    const architectures = arch.split(',').map((name) => Number.parseInt(name, 10));
    prepareEngine(engine, architectures, scratch);
    mkdirSync(out, { recursive: true });
    compress(scratch, ENGINE, join(out, 'engine.txz'), scratch);
    compress(root, files, join(out, 'tree.txz'), scratch);
    copyFileSync(join(root, 'scripts/gpu-report/run.sh'), join(out, 'run.sh'));
    tellSize(out);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

try {
  const options = readOptions();
  if (options === undefined) process.stdout.write(USAGE);
  else pack(options);
} catch (error) {
  say(`error: ${error.message}`);
  process.exitCode = error instanceof Unusable ? 2 : 1;
}
