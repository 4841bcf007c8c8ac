/** Every spelling of quantized weights, read by its tensors and settings, against values of independent dequantizers. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { matchWeights } from '../../src/auto/check-model.ts';
import { loadConfig } from '../../src/auto/load-config.ts';
import { openModelCheckpoint } from '../../src/auto/model-checkpoint.ts';
import { openQuantization } from '../../src/auto/quantization.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import { readJson } from '../helpers/goldens.ts';
import { type Dequantized, QUANTIZED_FOLDER, QUANTIZED_MODELS } from '../helpers/quantized-goldens.ts';

async function open(name: string) {
  const repo = await resolveRepo(join(QUANTIZED_FOLDER, name));
  const { model, json } = await loadConfig(repo);
  return { model, checkpoint: await openModelCheckpoint(repo, model, await openQuantization(repo, json)) };
}

describe.each(QUANTIZED_MODELS)('%s', (name) => {
  it('has every tensor that its model needs, and no other', async () => {
    const { model, checkpoint } = await open(name);
    const { report } = matchWeights(model, checkpoint, 'logits');
    const { missing, mismatched, unexpected, surplusBiases } = report;
    expect({ missing, mismatched, unexpected }).toEqual({ missing: [], mismatched: [], unexpected: [] });
    expect(surplusBiases.length > 0).toBe(name === 'qwen2_moe_gptq');
  });

  it('gives the weights that others compute from it', async () => {
    const { dequantized } = readJson<{ dequantized: Dequantized[] }>(QUANTIZED_FOLDER, name, 'expected.json');
    const { checkpoint } = await open(name);
    const { tensors, quantized = new Map() } = checkpoint;
    const store = openWeightStore(tensors.values(), quantized.values());
    try {
      for (const { weight, shape, ...wanted } of dequantized) {
        expect((quantized.get(weight) ?? tensors.get(weight))?.shape, weight).toEqual(shape);
        expectValues(store.readFloat32(weight), wanted, weight);
      }
    } finally {
      store.dispose();
    }
  });
});

function expectValues(
  found: Float32Array,
  wanted: Omit<Dequantized, 'weight' | 'shape'>,
  weight: string,
): void {
  const digest = createHash('sha256').update(new Uint8Array(found.buffer)).digest('hex');
  if (wanted.exact) expect(digest, weight).toBe(wanted.sha256);
  const near = (value: number, other: number) =>
    expect(Math.abs(value - other), weight).toBeLessThanOrEqual(2e-7 * Math.abs(other) + 1e-12);
  for (const [i, value] of wanted.first4.entries()) near(found[i] as number, value);
  for (const [i, value] of wanted.last4.entries()) near(found[found.length - 4 + i] as number, value);
  const sum = found.reduce((total, value) => total + value, 0);
  expect(sum).toBeCloseTo(wanted.sum, 4);
  expect(Math.sqrt(found.reduce((total, value) => total + value * value, 0))).toBeCloseTo(wanted.l2, 4);
}
