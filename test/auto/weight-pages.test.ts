import { describe, expect, it } from 'vitest';
import { wantsPacked } from '../../src/auto/weight-pages.ts';
import { AutoModelForCausalLM, DEMO_MODEL, EngineError, InputError } from '../../src/index.ts';
import { largePageBytes } from '../../src/runtime/machine.ts';

const inputIds = [[5, 6, 7, 8, 9, 10, 11, 12]];

/** Of mapped weights, then of packed ones: while these are copied, and afterwards. */
async function logitsOf(dtype: 'bfloat16' | 'float32'): Promise<Float32Array[]> {
  const logits: Float32Array[] = [];
  for (const weights of ['mapped', 'packed'] as const) {
    const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL, { weights, dtype });
    for (let pass = 0; pass < 5; pass++)
      logits.push((await model.forward({ inputIds })).logits.data as Float32Array);
    await model.dispose();
  }
  return logits;
}

describe.runIf(largePageBytes() > 0)('packed weights give what mapped ones give', () => {
  it('bit for bit in float32', async () => {
    const [mapped, ...others] = await logitsOf('float32');
    for (const other of others) expect(other).toEqual(mapped);
  });

  it('in bfloat16 but for the order of sums, which may round an activation to its other neighbour', async () => {
    const [mapped, ...others] = (await logitsOf('bfloat16')) as [Float32Array, ...Float32Array[]];
    const unit = 2 ** -8 * mapped.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const other of others) {
      const difference = other.reduce(
        (most, value, i) => Math.max(most, Math.abs(value - (mapped[i] as number))),
        0,
      );
      expect(difference).toBeLessThan(unit);
    }
  });
});

it('packed is refused where it has no effect, with what to do', async () => {
  const loading = (options: object) => AutoModelForCausalLM.fromPretrained(DEMO_MODEL, options);
  await expect(loading({ weights: 'paked' })).rejects.toThrow(
    new InputError('weights is "paked"; expected "mapped" or "packed". Did you mean "packed"?'),
  );
  await expect(loading({ weights: 'packed', device: 'cuda' })).rejects.toThrow(
    /'packed' is about the memory that the CPU reads, and the model is on a GPU.*Leave it out/,
  );
  await expect(loading({ weights: 'packed', pinnedExperts: 'routing.safetensors' })).rejects.toThrow(
    /pinnedExperts keeps pages of files in memory, .*Leave out one of the two/,
  );
  await expect(loading({ weights: 'packed', maxMemory: '1GB' })).rejects.toThrow(
    /maxMemory leaves experts out of memory.*Leave out one of the two/,
  );
  const packed = { weights: 'packed', device: 'cpu' };
  expect(() => wantsPacked(packed, () => 0)).toThrow(EngineError);
  expect(() => wantsPacked(packed, () => 0)).toThrow(/no large pages of memory; .*leave it out/);
  expect(wantsPacked({ weights: 'mapped', device: 'cuda' }, () => 0)).toBe(false);
});
