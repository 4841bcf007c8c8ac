import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import { AutoModelForCausalLM, InputError, type LoadOptions } from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';

const PROMPT = Array.from({ length: 150 }, (_, i) => (i * 13) % 90);

async function logitsOf(options: LoadOptions): Promise<Float32Array> {
  const model = await AutoModelForCausalLM.fromPretrained(goldenModel('qwen3_moe_c'), options);
  const { logits } = await model.forward({ inputIds: [PROMPT] });
  await model.dispose();
  return logits.data as Float32Array;
}

describe('the dtype of the KV cache', () => {
  /** Rounding keys and values to 8 or 11 bits was seen to change logits of a size about 5 by 0.13 and 0.005 at most. */
  it.each([
    ['bfloat16', 0.25],
    ['float16', 0.01],
  ] as const)('%s changes logits no more than rounding does', async (cacheDtype, tolerance) => {
    const exact = await logitsOf({ dtype: 'float32' });
    const rounded = await logitsOf({ dtype: 'float32', cacheDtype });
    const difference = exact.reduce((most, x, i) => Math.max(most, Math.abs(x - (rounded[i] as number))), 0);
    expect(difference).toBeGreaterThan(0);
    expect(difference).toBeLessThan(tolerance);
  });

  it.each([
    [{ dtype: 'float32' }, 4],
    [{ dtype: 'bfloat16' }, 2],
    [{ dtype: 'float16' }, 2],
    [{ dtype: 'bfloat16', cacheDtype: 'float32' }, 4],
  ] as const)("is the model's own unless asked otherwise: %j", async (options, bytes) => {
    const settings = { ...options, prefixCache: false } as const;
    const { engine, release } = await loadModel(goldenModel('qwen3_moe_c'), settings, 'logits');
    const sequence = engine.open({ ids: PROMPT });
    await engine.reserve([sequence]);
    // Three blocks of 64 positions hold 150.
    const sizes = engine.model.caches.map((spec) =>
      spec.kind === 'keys_values' ? spec.kvHeads * spec.headDim : 0,
    );
    const values = 2 * 3 * 64 * sizes.reduce((a, b) => a + b, 0);
    expect(engine.cacheBytes).toBe(values * bytes);
    engine.close(sequence);
    await release();
  });

  it('is what was asked for where auto means the CPU', async () => {
    // Whatever this machine has.
    vi.stubEnv('SWITCHYARD_CUDA_LIBRARY', '/nowhere/library.so');
    onTestFinished(() => void vi.unstubAllEnvs());
    const options = { dtype: 'float32', cacheDtype: 'bfloat16' } as const;
    expect(await logitsOf({ ...options, device: 'auto' })).toEqual(await logitsOf(options));
  });

  it('is refused where it would have no effect, or is none', async () => {
    const load = (options: object) =>
      AutoModelForCausalLM.fromPretrained(goldenModel('qwen3_moe_c'), options);
    await expect(load({ cacheDtype: 'int8' })).rejects.toThrow(/cacheDtype is "int8"; expected float32/);
    await expect(load({ cacheDtype: 'int8' })).rejects.toThrow(InputError);
  });
});
