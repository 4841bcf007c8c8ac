import { createHash } from 'node:crypto';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { FolderRepo } from '../../src/hub/repo/folder-repo.ts';
import { openCheckpoint } from '../../src/safetensors/checkpoint.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { run } from './capture.ts';

const MODEL = goldenModel('qwen2_moe_a');
/** Written by scripts/reference.py with transformers 5.18.0. */
const REFERENCE = join(import.meta.dirname, '../fixtures/references/qwen2_moe_a.json');
const EXPERT = 'model.layers.1.mlp.experts.3.up_proj.weight';

const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

async function temporary(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-certificate-'));
  folders.push(folder);
  return folder;
}

const tensorsOf = async (folder: string) => (await openCheckpoint(new FolderRepo(folder, folder))).tensors;

/** A copy of the model with one bit of one weight of an expert turned over: bit 14 makes it large, bit 0 hardly changes it. */
async function flipped(bit: number): Promise<string> {
  const folder = await temporary();
  await cp(MODEL, folder, { recursive: true });
  const tensor = (await tensorsOf(folder)).get(EXPERT);
  if (!tensor) throw new Error(`there is no ${EXPERT}`);
  const bytes = await readFile(tensor.file);
  const at = tensor.offset + 2 * 100 + (bit >> 3);
  bytes[at] = (bytes[at] as number) ^ (1 << (bit & 7));
  await writeFile(tensor.file, bytes);
  return folder;
}

describe('switchyard verify --backends', () => {
  test('compares nothing twice with itself where the device auto means the CPU', async () => {
    // Whatever this machine has.
    vi.stubEnv('SWITCHYARD_CUDA_LIBRARY', '/nowhere/library.so');
    onTestFinished(() => void vi.unstubAllEnvs());
    const file = join(await temporary(), 'certificate.json');
    const args = ['--backends', 'eager,grouped_mm', '--device', 'auto', '--certificate', file];
    const { exitCode, stderr } = await run(['verify', MODEL, ...args]);
    expect({ exitCode, stderr }).toMatchObject({
      exitCode: 0,
      stderr: expect.not.stringContaining(' on auto'),
    });
    expect(JSON.parse(await readFile(file, 'utf8')).comparisons).toHaveLength(1);
  });
});

describe('switchyard verify --backends all', () => {
  test('runs every backend, compares each pair, and writes a certificate', async () => {
    const file = join(await temporary(), 'certificate.json');
    const { exitCode, stdout } = await run(['verify', MODEL, '--backends', 'all', '--certificate', file]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: expect.stringMatching(/^all agree$/m) });
    for (const pair of ['batched_mm on cpu / eager on cpu', 'eager on cpu / grouped_mm on cpu'])
      expect(stdout).toMatch(new RegExp(`^${pair} +\\S+ +0 of 232 +0 of 58 +same +same$`, 'm'));
    const certificate = JSON.parse(await readFile(file, 'utf8'));
    expect(certificate).toMatchObject({
      ...{
        format: 'switchyard-certificate',
        version: 1,
        verdict: 'pass',
        faults: [],
        architecture: 'qwen2_moe',
      },
      made: {
        dtype: 'float32',
        node: process.versions.node,
        switchyard: expect.any(String),
        cpu: expect.any(String),
      },
      tolerances: { logits: 1e-3, tie: 1e-3 },
    });
    expect(certificate.comparisons).toHaveLength(3);
    // Of summation in another order there is always something left: the backends did run.
    expect(certificate.comparisons.some(({ logits }: { logits: number }) => logits > 0)).toBe(true);
    const tensors = await tensorsOf(MODEL);
    expect(Object.keys(certificate.checksums.tensors).sort()).toEqual([...tensors.keys()].sort());
    for (const [name, { file, offset, byteLength }] of tensors) {
      const bytes = (await readFile(file)).subarray(offset, offset + byteLength);
      const sum = createHash('sha256').update(bytes).digest('hex');
      expect(certificate.checksums.tensors[name]).toBe(sum.slice(0, 16));
    }
  });

  test('runs rounded weights and activations, too, where asked for', async () => {
    const { exitCode, stdout } = await run([
      'verify',
      MODEL,
      '--backends',
      'eager,grouped_mm',
      '--storages',
      'int8',
    ]);
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 0 });
    const pair = (a: string, b: string) => new RegExp(`^${a} / ${b} +(\\S+|apart \\S+) +.*same$`, 'm');
    const [eager, grouped] = ['eager on cpu', 'grouped_mm on cpu'];
    expect(stdout).toMatch(pair(eager, grouped));
    expect(stdout).toMatch(pair(`${eager}, int8`, `${grouped}, int8`));
    // Rounding is there, and not much.
    const apart = [...stdout.matchAll(/apart (0\S*)/g)].map(([, value]) => Number(value));
    expect(stdout).toMatch(pair(eager, `${eager}, int8`));
    expect(stdout).toMatch(pair(`${eager}, int8`, `${eager}, int8, int8 activations`));
    expect(apart).toHaveLength(3);
    expect(apart.filter((value) => value > 0.005 && value < 0.1)).toHaveLength(2);
    expect(stdout).toMatch(/^rounded forms may be apart by 0\.2 for int8, 0\.25 for int8 activations/m);
  });

  test('is the same as transformers, whose results are kept', async () => {
    const { exitCode, stdout } = await run(['verify', MODEL, '--reference', REFERENCE]);
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 0 });
    expect(stdout.match(/^transformers 5\.18\.0 \/ .* same$/gm)).toHaveLength(3);
  });

  test.each([0, 14])(
    'a checkpoint whose expert has bit %i turned over fails a certificate, by name',
    async (bit) => {
      const file = join(await temporary(), 'certificate.json');
      await run(['verify', MODEL, '--backends', 'eager', '--certificate', file]);
      const { exitCode, stdout } = await run([
        'verify',
        await flipped(bit),
        '--reference',
        file,
        '--backends',
        'grouped_mm',
      ]);
      expect(exitCode).toBe(1);
      expect(stdout).toMatch(`FAULT  tensor "${EXPERT}" has other bytes than in the reference`);
    },
  );

  test('a turned bit that matters fails a reference by its results, too', async () => {
    const { checksums, ...reference } = JSON.parse(await readFile(REFERENCE, 'utf8'));
    const file = join(await temporary(), 'reference.json');
    await writeFile(file, JSON.stringify(reference));
    const folder = await flipped(14);
    const { exitCode, stdout } = await run([
      'verify',
      folder,
      '--reference',
      file,
      '--backends',
      'grouped_mm',
    ]);
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 1 });
    expect(stdout).toMatch(/FAULT {2}transformers 5\.18\.0 and grouped_mm on cpu differ/);
    expect(stdout).toMatch(/^they do not agree$/m);
  });

  test('some layers are run alone; a reference of all is refused then', async () => {
    const some = await run(['verify', MODEL, '--backends', 'eager,grouped_mm', '--layers', '2', '--json']);
    const { certificate } = JSON.parse(some.stdout);
    expect(certificate).toMatchObject({ layers: 2, verdict: 'pass' });
    expect(certificate.runs[0].prompts[0].experts).toHaveLength(2);
    const { exitCode, stderr } = await run(['verify', MODEL, '--reference', REFERENCE, '--layers', '2']);
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: expect.stringMatching(/is of all layers, and this run of 2 layers; leave --layers out/),
    });
  });

  test.each([
    [['--certificate', 'x.json'], 2, /--certificate says how the model is run; add --backends all/],
    [['--storages', 'all'], 2, /--storages says how the model is run; add --backends all/],
    [['--backends', 'all', '--storages', 'int5'], 2, /Unknown storage "int5"/],
    [['--backends', 'bached_mm'], 2, /Unknown experts implementation "bached_mm".*batched_mm/],
    [
      ['--reference', join(MODEL, 'config.json')],
      1,
      /config\.json is no reference: .*scripts\/reference\.py/,
    ],
    [['--reference', 'no-such-file.json'], 1, /no-such-file\.json/],
  ])('%j is refused', async (flags, code, message) => {
    const { exitCode, stderr } = await run(['verify', MODEL, ...flags]);
    expect({ exitCode, stderr }).toEqual({ exitCode: code, stderr: expect.stringMatching(message) });
  });
});
