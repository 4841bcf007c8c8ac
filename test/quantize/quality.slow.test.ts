/** What rounding at load costs: the divergence of the bundled model's predictions from its own in float32. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { AutoModelForCausalLM, DEMO_MODEL, type Quantization } from '../../src/index.ts';
import { loadBinding } from '../../src/runtime/binding.ts';
import { logSumExp, readJson } from '../helpers/goldens.ts';

const GOLDENS = join(import.meta.dirname, '../fixtures/goldens/quantized/demo_load_time');
const { input_ids: windows } = readJson<{ input_ids: number[][] }>(GOLDENS, 'expected.json');

const cache = mkdtempSync(join(tmpdir(), 'switchyard-quality-'));
/** Log-probabilities of every prediction. */
let exact: Float64Array[];

beforeAll(async () => {
  vi.stubEnv('SWITCHYARD_CACHE', cache);
  exact = await predictions(undefined);
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(cache, { recursive: true });
});

async function predictions(
  quantization: Quantization | undefined,
  activationQuantization: 'int8' | 'none' = 'none',
): Promise<Float64Array[]> {
  const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL, {
    dtype: 'float32',
    ...(quantization && { quantization, activationQuantization }),
  });
  try {
    const rows: Float64Array[] = [];
    for (const window of windows) {
      const { logits } = await model.forward({ inputIds: [window] });
      const vocab = logits.dims.at(-1) as number;
      for (let i = 0; i + 1 < window.length; i++) {
        const row = (logits.data as Float32Array).subarray(i * vocab, (i + 1) * vocab);
        const total = logSumExp(row);
        rows.push(Float64Array.from(row, (value) => value - total));
      }
    }
    return rows;
  } finally {
    await model.dispose();
  }
}

/** Mean Kullback-Leibler divergence from float32, in nats. */
function divergence(found: readonly Float64Array[]): number {
  const sum = exact.reduce((total, row, i) => {
    const other = found[i] as Float64Array;
    return (
      total + row.reduce((part, value, id) => part + Math.exp(value) * (value - (other[id] as number)), 0)
    );
  }, 0);
  return sum / exact.length;
}

// The bounds are the divergences of plain rounding to the same bits, as the goldens list them; llama.cpp's q8_0 has 0.00027, its q4_0
// 0.0148 and its q4_1 0.0131.
it.each<[string, Quantization, number]>([
  ['int8', { experts: 'int8', attention: 'int8' }, 0.0002],
  ['int4', { experts: 'int4', attention: 'int4' }, 0.016],
  ['int4-asymmetric', { experts: 'int4-asymmetric', attention: 'int4-asymmetric' }, 0.014],
  ['the head in int8', { head: 'int8' }, 0.00005],
])('%s stays close to float32', async (_, quantization, bound) => {
  const found = divergence(await predictions(quantization));
  expect(found).toBeLessThan(bound);
  expect(found).toBeGreaterThan(bound / 100);
});

// llama.cpp, which rounds activations likewise, is what people compare with; see its divergences above.
it.each<[string, Quantization, number]>([
  ['int8', { experts: 'int8', attention: 'int8' }, 0.0005],
  ['int4', { experts: 'int4', attention: 'int4' }, 0.016],
])('%s with activations rounded to int8 stays close, too', async (_, quantization, bound) => {
  const found = await predictions(quantization, 'int8');
  expect(divergence(found)).toBeLessThan(bound);
  if (!/vnni|avx512_bf16|avx512_vbmi|amx/.test(loadBinding().cpuInfo().isa)) return;
  const exactly = await predictions(quantization);
  expect(found.some((row, i) => row.some((value, id) => value !== exactly[i]?.[id]))).toBe(true);
});
