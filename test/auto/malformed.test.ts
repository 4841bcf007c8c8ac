import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AutoModelForCausalLM, AutoModelForImageTextToText, SwitchyardError } from '../../src/index.ts';
import { maxDifference, readJson } from '../helpers/goldens.ts';

interface MalformedCase {
  name: string;
  /** Among the goldens. */
  folder: string;
  defect: string;
  expect: 'error' | 'either' | 'load';
  file?: string | string[];
  subject?: string | string[];
  input_ids?: number[];
  logits_first8?: number[];
}

const GOLDENS = join(import.meta.dirname, '../fixtures/goldens');
const FOLDER = join(GOLDENS, 'malformed');
const casesIn = (folder: string) =>
  readJson<{ cases: Omit<MalformedCase, 'folder'>[] }>(GOLDENS, folder, 'manifest.json').cases.map((one) => ({
    ...one,
    folder,
  }));
const cases = [...casesIn('malformed'), ...casesIn('quantized-malformed')];

async function lastLogits(one: MalformedCase): Promise<Float32Array> {
  const autoClass = one.name.includes('vl_') ? AutoModelForImageTextToText : AutoModelForCausalLM;
  const model = await autoClass.fromPretrained(join(GOLDENS, one.folder, one.name), {
    dtype: 'float32',
    onWarning: () => {},
  });
  try {
    const { logits } = await model.forward({ inputIds: [one.input_ids as number[]], logitsToKeep: 1 });
    return logits.data as Float32Array;
  } finally {
    await model.dispose();
  }
}

/** At least one of the alternatives occurs in the message; what stands in parentheses only describes the place. */
function expectNamed(message: string, alternatives: string | string[] | undefined): void {
  const names = [alternatives ?? []].flat().filter((name) => !name.startsWith('(') && name !== 'header');
  if (names.length > 0)
    expect(
      names.some((name) => message.includes(name)),
      message,
    ).toBe(true);
}

describe('opening a damaged or unusual checkpoint', () => {
  it.each(cases.filter((one) => one.expect === 'error'))('refuses $name: $defect', async (one) => {
    const error = await lastLogits(one).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(SwitchyardError);
    expectNamed((error as Error).message, one.file);
    expectNamed((error as Error).message, one.subject);
  });

  const loading = cases.filter((one) => one.expect !== 'error');
  it.each(loading)('handles $name: $defect', async (one) => {
    const logits = await lastLogits(one).catch((cause: unknown) => {
      if (one.expect === 'either' && cause instanceof SwitchyardError) return undefined;
      throw cause;
    });
    if (logits) expect(maxDifference(logits.slice(0, 8), one.logits_first8 as number[])).toBeLessThan(1e-4);
  });
});

describe('a tensor that is missing', () => {
  const folder = join(FOLDER, 'tensor_absent');
  const name = 'model.layers.0.mlp.experts.1.up_proj.weight';

  it('is taken as zeros where the caller allows it by name', async () => {
    const warnings: string[] = [];
    const options = { allowMissing: [name], onWarning: (message: string) => warnings.push(message) };
    const model = await AutoModelForCausalLM.fromPretrained(folder, options);
    const { logits } = await model.forward({ inputIds: [[1, 2, 3]] });
    expect((logits.data as Float32Array).every(Number.isFinite)).toBe(true);
    expect(warnings.join()).toContain(name);
    await model.dispose();
  });

  it('is an error where the caller allows another one', async () => {
    const options = { allowMissing: ['lm_head.weight'] };
    await expect(AutoModelForCausalLM.fromPretrained(folder, options)).rejects.toThrow(name);
  });
});

describe('a checkpoint with more experts than its config names', () => {
  it('is refused with the names of the extra tensors', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'switchyard-extra-'));
    const source = join(FOLDER, 'ok_two_shards');
    cpSync(source, folder, { recursive: true });
    const config = join(folder, basename('config.json'));
    const json = JSON.parse(readFileSync(config, 'utf8')) as Record<string, number>;
    const router = await AutoModelForCausalLM.fromPretrained(folder, {
      config: { num_experts: (json.num_experts as number) - 1, num_experts_per_tok: 1 },
    }).catch((error: Error) => error.message);
    expect(router).toMatch(/beyond num_experts.*experts\.\d+\./);
    writeFileSync(config, '{}');
    rmSync(folder, { recursive: true });
  });
});
