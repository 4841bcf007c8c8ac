import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import type { LoadOptions } from '../../src/auto/load-options.ts';
import { AutoModelForCausalLM, AutoModelForImageTextToText } from '../../src/index.ts';
import { readJson } from '../helpers/goldens.ts';

// The checkpoints here are smaller than the blocks of a disk that their experts lie in, so that no bound would leave any of them out: this
// one does, with as much room as there is.
vi.mock(import('../../src/auto/expert-bounds.ts'), async (original) => {
  const { expertBounds, ...others } = await original();
  return {
    ...others,
    expertBounds: (maxMemory, ...rest) => {
      if (!Number.isFinite(maxMemory)) return undefined;
      const bounds = expertBounds(1, ...rest);
      return bounds && { ...bounds, maxBytes: maxMemory };
    },
  };
});

const goldens = join(import.meta.dirname, '../fixtures/goldens/quantized');
const names = readdirSync(goldens).filter((name) => existsSync(join(goldens, name, 'config.json')));

async function logitsOf(name: string, options: LoadOptions = {}) {
  const folder = join(goldens, name);
  const { model_type: type } = readJson<{ model_type: string }>(folder, 'config.json');
  const Auto = type.includes('_vl_') ? AutoModelForImageTextToText : AutoModelForCausalLM;
  const model = await Auto.fromPretrained(folder, { onWarning: () => {}, ...options });
  const passes = [];
  for (const inputIds of [[[5, 6, 7, 8, 9, 10, 11, 12]], [[3]], [[7, 9]]])
    passes.push([...(await model.forward({ inputIds })).logits.data]);
  const { residency } = model.executionStats;
  await model.dispose();
  return { passes, residency };
}

describe.each(names)('experts of %s', (name) => {
  it('are the same in memory of a bounded size as in their file, with all that belongs to their codes', async () => {
    const mapped = await logitsOf(name);
    const bounded = await logitsOf(name, { maxMemory: '10MB' });
    expect(mapped.residency).toBeUndefined();
    expect(bounded.residency?.fetches).toBeGreaterThan(0);
    expect(bounded.passes).toEqual(mapped.passes);
  });
});
