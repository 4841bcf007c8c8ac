/** The folder that brings Switchyard to a GPU machine. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';

const scripts = join(import.meta.dirname, '../../scripts');
const part = (name: string) => import(join(scripts, 'gpu-report', name));
const { fatBinariesOf, pruneFatBinaries } = await part('fat-binary.mjs');
const { packedFiles } = await part('packed-files.mjs');
const { keep, mergeSteps, readKept } = await part('kept.mjs');

const PTX = 1;
const MACHINE_CODE = 2;
const ZSTD = 0x8000;

interface Entry {
  kind?: number;
  architecture: number;
  payload: string;
  flags?: number;
}

function entry({ kind = MACHINE_CODE, architecture, payload, flags = 0 }: Entry): Buffer {
  const header = Buffer.alloc(64);
  header.writeUInt16LE(kind, 0);
  header.writeUInt32LE(header.length, 4);
  header.writeBigUInt64LE(BigInt(payload.length), 8);
  header.writeUInt32LE(flags === 0 ? 0 : payload.length, 16);
  header.writeUInt32LE(architecture, 28);
  header.writeBigUInt64LE(BigInt(flags), 40);
  return Buffer.concat([header, Buffer.from(payload)]);
}

function fatBinary(...entries: Entry[]): Buffer {
  const body = Buffer.concat(entries.map(entry));
  const header = Buffer.alloc(16);
  header.writeUInt32LE(0xba55ed50, 0);
  header.writeUInt16LE(1, 4);
  header.writeUInt16LE(16, 6);
  header.writeBigUInt64LE(BigInt(body.length), 8);
  return Buffer.concat([header, body]);
}

const library = (...parts: Buffer[]) =>
  Buffer.concat([Buffer.from('code of the host'), ...parts, Buffer.from('its data')]);
/** What is left of payloads, by fat binary. */
const left = (bytes: Buffer): string[][] =>
  fatBinariesOf(bytes).map((entries: { from: number; to: number }[]) =>
    entries.map(({ from, to }) => bytes.toString('latin1', from, to).replaceAll('\0', '')),
  );

describe('code for GPUs', () => {
  test('is zeroed where it lies but for the architectures that are wanted', () => {
    const bytes = library(
      fatBinary(
        { architecture: 75, payload: 'seventy-five' },
        { architecture: 80, payload: 'eighty' },
        { architecture: 90, payload: 'ninety' },
      ),
      fatBinary({ architecture: 80, payload: 'more' }),
    );
    const length = bytes.length;
    expect(pruneFatBinaries(bytes, [80])).toEqual({ keptBytes: 10, zeroedBytes: 18, unwanted: 0 });
    expect(left(bytes)).toEqual([['', 'eighty', ''], ['more']]);
    expect(bytes.length).toBe(length);
    expect(bytes.toString('latin1')).toMatch(/^code of the host.*its data$/s);
  });

  test('of a card is what its driver takes: machine code of its generation, else PTX', () => {
    const entries = [
      { kind: PTX, architecture: 70, payload: 'old PTX' },
      { kind: PTX, architecture: 80, payload: 'PTX' },
      { architecture: 80, payload: 'eighty' },
      { architecture: 86, payload: 'eighty-six' },
      { kind: PTX, architecture: 120, payload: 'new PTX' },
    ];
    const keptFor = (architecture: number) => {
      const bytes = library(fatBinary(...entries));
      pruneFatBinaries(bytes, [architecture]);
      return left(bytes).flat().filter(Boolean);
    };
    expect(keptFor(89)).toEqual(['eighty-six']);
    expect(keptFor(80)).toEqual(['eighty']);
    expect(keptFor(90)).toEqual(['PTX']);
  });

  test('goes where none of its kernels is wanted, compressed or not', () => {
    const bytes = library(
      fatBinary({ architecture: 90, payload: '\0.text.wanted\0.text.other\0' }),
      fatBinary({ architecture: 90, payload: '\0.text.other\0' }),
      fatBinary({ architecture: 90, payload: 'squeezed', flags: ZSTD }),
      fatBinary({ architecture: 90, payload: 'unreadable', flags: ZSTD }),
      fatBinary({ architecture: 90, payload: 'nameless' }),
    );
    const options = {
      isWanted: (names: string[]) => names.includes('wanted'),
      unpack: (payload: Buffer) =>
        payload.toString() === 'squeezed' ? Buffer.from('\0.text.other\0') : undefined,
    };
    expect(pruneFatBinaries(bytes, [90], options).unwanted).toBe(2);
    expect(left(bytes)).toEqual([['.text.wanted.text.other'], [''], [''], ['unreadable'], ['nameless']]);
  });

  test('that is missing is told with what is there', () => {
    const bytes = library(fatBinary({ architecture: 80, payload: 'x' }, { architecture: 120, payload: 'x' }));
    expect(() => pruneFatBinaries(bytes, [80, 90])).toThrow(/no code for sm_90, only for sm_120, sm_80/);
    expect(() => pruneFatBinaries(Buffer.from('no library'), [80])).toThrow(/no code for GPUs/);
  });

  test('is told from bytes that only begin like it', () => {
    const bytes = library(
      Buffer.from([0x50, 0xed, 0x55, 0xba, 1, 0, 9, 9]),
      fatBinary({ architecture: 90, payload: 'x' }),
    );
    expect(left(bytes)).toEqual([['x']]);
  });
});

function folder(files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'pack-'));
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), text);
  }
  return root;
}

const built = {
  'dist/cli/main.js': '',
  'kernels/build/switchyard.node': '',
  'kernels/build/libswitchyard_cuda.so': '',
  'kernels/build/cuda/bench': '',
};

describe('the folder', () => {
  test('holds what runs, the packages that this needs, and goldens', () => {
    const manifest = (dependencies: string[]) =>
      JSON.stringify({ dependencies: Object.fromEntries(dependencies.map((name) => [name, '1'])) });
    const root = folder({
      ...built,
      'package.json': manifest(['needed', 'onnxruntime-node']),
      'node_modules/needed/package.json': manifest(['@a/b', 'absent']),
      'node_modules/needed/index.js': '',
      'node_modules/needed/index.d.ts': '',
      'node_modules/needed/README.md': '',
      'node_modules/needed/node_modules/@a/b/package.json': '{}',
      'node_modules/@a/b/package.json': '{}',
      'node_modules/onnxruntime-node/package.json': '{}',
      'node_modules/onnxruntime-node/bin/libonnxruntime.so.1': '',
      'node_modules/vitest/package.json': '{}',
      'node_modules/rolldown/package.json': '{}',
      'node_modules/typescript/package.json': '{}',
      'src/index.ts': '',
      'dist/cli/main.js.map': '',
      'kernels/cuda/kernel.cu': '',
      'kernels/build/cuda/objects/kernel.o': '',
      'test/engine/cuda.slow.test.ts': '',
      'test/fixtures/goldens/a.json': '',
      'test/fixtures/other/a.json': '',
    });
    expect(packedFiles(root)).toEqual([
      'dist/cli/main.js',
      'kernels/build/cuda/bench',
      'kernels/build/libswitchyard_cuda.so',
      'kernels/build/switchyard.node',
      'kernels/cuda/kernel.cu',
      'node_modules/needed/index.js',
      'node_modules/needed/node_modules/@a/b/package.json',
      'node_modules/needed/package.json',
      'node_modules/onnxruntime-node/package.json',
      'node_modules/rolldown/package.json',
      'node_modules/vitest/package.json',
      'package.json',
      'src/index.ts',
      'test/engine/cuda.slow.test.ts',
      'test/fixtures/goldens/a.json',
      'tsconfig.json',
    ]);
  });

  test.each(Object.keys(built))('is not made without %s', (file) => {
    const { [file as keyof typeof built]: _, ...others } = built;
    const root = folder({ ...others, 'package.json': '{}' });
    expect(() => packedFiles(root)).toThrow(`there is no ${file}; it is made by: n`);
  });
});

describe('the command line', () => {
  const pack = (...args: string[]) =>
    spawnSync(process.execPath, [join(scripts, 'gpu-report/pack.mjs'), ...args], { encoding: 'utf8' });

  test('explains itself', () => {
    const { status, stdout } = pack('--help');
    expect(status).toBe(0);
    expect(stdout).toContain('--onnxruntime DIR');
  });

  test('refuses what it cannot make a folder of, and says what is missing', () => {
    const engine = folder({ 'libonnxruntime.so.1': '' });
    const full = folder({ file: '' });
    const whole = folder({
      'libonnxruntime.so.1': '',
      'libonnxruntime_providers_cuda.so': '',
      'libonnxruntime_providers_shared.so': '',
    });
    const out = ['--out', join(full, 'new')];
    for (const [args, message] of [
      [out, /--onnxruntime DIR is missing/],
      [['--onnxruntime', whole], /--out DIR is missing/],
      [
        ['--onnxruntime', engine, ...out],
        /has no libonnxruntime_providers_shared.so, no libonnxruntime_providers_cuda.so/,
      ],
      [['--onnxruntime', whole, '--out', full], /is not empty/],
      [['--onnxruntime', whole, ...out, '--arch', 'hopper'], /--arch is hopper; expected/],
      [['--onnxruntime', whole, ...out, '--nvcc', join(full, 'nvcc')], /build-cuda.mjs|nvcc/],
    ] as [string[], RegExp][]) {
      const { status, stderr } = pack(...args);
      expect(status).toBe(2);
      expect(stderr).toMatch(message);
    }
  });

  const onLinux = test.skipIf(process.platform !== 'linux');

  onLinux('of the folder refuses stages that there are not', () => {
    const script = join(scripts, 'gpu-report/run.sh');
    const run = (...args: string[]) => spawnSync('bash', [script, ...args], { encoding: 'utf8' });
    expect(run('--help')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('run.sh [kernels] [models]'),
    });
    const { status, stderr } = run('kernels', 'colours');
    expect(status).toBe(2);
    expect(stderr).toBe('run.sh: there is no stage colours; known are kernels, models and peers\n');
  });
});

describe('a report in several calls', () => {
  const order = ['build', 'kernels', 'goldens'];
  const step = (name: string, outcome: string) => ({ name, outcome, detail: '' });

  test('has every step as it went when it ran last', () => {
    const earlier = [step('kernels', 'failed'), step('goldens', 'passed')];
    const now = [step('build', 'left out'), step('kernels', 'passed'), step('goldens', 'left out')];
    expect(mergeSteps(earlier, now, order)).toEqual([
      step('build', 'left out'),
      step('kernels', 'passed'),
      step('goldens', 'passed'),
    ]);
  });

  test('finds what the calls before it kept, and takes no other file', () => {
    const file = join(folder({}), 'results.json');
    for (const none of [undefined, file]) expect(readKept(none)).toEqual({ steps: [], results: {} });
    const kept = { steps: [step('kernels', 'passed')], results: { bench: { rows: [] } } };
    keep(file, kept);
    expect(readKept(file)).toEqual(kept);
    for (const text of ['{', '[]', '{"steps":{}}']) {
      writeFileSync(file, text);
      expect(() => readKept(file)).toThrow(/--results: .*results.json was not written by this script/);
    }
  });
});
