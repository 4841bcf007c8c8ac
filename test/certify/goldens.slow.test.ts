import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Certificate } from '../../src/certify/certificate.ts';
import { run } from '../cli/capture.ts';
import { DEMO_FOLDER } from '../helpers/goldens.ts';

const GOLDENS = join(import.meta.dirname, '../fixtures/goldens');
const models = readdirSync(join(GOLDENS, 'models')).map((name) => join(GOLDENS, 'models', name));
const quantized = readdirSync(join(GOLDENS, 'quantized'), { withFileTypes: true })
  // What a load has rounded, not a checkpoint.
  .filter((entry) => entry.isDirectory() && entry.name !== 'demo_load_time')
  .map(({ name }) => join(GOLDENS, 'quantized', name));

async function certificateOf(folder: string) {
  const { exitCode, stdout } = await run([
    'verify',
    folder,
    '--backends',
    'all',
    '--storages',
    'all',
    '--json',
  ]);
  const { certificate, faults } = JSON.parse(stdout) as { certificate: Certificate; faults: string[] };
  expect(faults).toEqual([]);
  expect([exitCode, certificate.verdict]).toEqual([0, 'pass']);
  return certificate;
}

test.each([...models, DEMO_FOLDER])('%s has a certificate, as it is stored and rounded', async (folder) => {
  const { runs, comparisons } = await certificateOf(folder);
  const names = runs.map(({ name }) => name);
  for (const form of ['', ', int8', ', int8, int8 activations', ', int4', ', int4, int8 activations'])
    expect(names).toEqual(expect.arrayContaining([`eager on cpu${form}`, `grouped_mm on cpu${form}`]));
  // Rounding shows: the forms are not the same weights.
  const apart = comparisons.filter(({ a, coarser }) => coarser === 'int4' && !a.includes(','));
  expect(apart.map(({ distance = 0 }) => distance > 0.005)).toEqual([true]);
});

test.each(quantized)('%s has a certificate', async (folder) => {
  const { runs, comparisons } = await certificateOf(folder);
  expect(new Set(runs.map(({ name }) => name.split(',')[1] ?? ''))).not.toContain(' int4');
  expect(comparisons.length).toBeGreaterThanOrEqual(3);
});
