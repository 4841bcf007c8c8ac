import { describe, expect, it } from 'vitest';
import { CheckpointError } from '../../src/errors.ts';
import type { TensorInfo } from '../../src/safetensors/types.ts';
import { assertComplete, CheckpointWeights } from '../../src/weights/checkpoint-weights.ts';

const tensor = (name: string, dtype: TensorInfo['dtype'], shape: number[]): TensorInfo => ({
  ...{ name, dtype, shape, file: '/m/model.safetensors', offset: 8, byteLength: 8 },
});
const weightsOf = (...tensors: TensorInfo[]) =>
  new CheckpointWeights({
    files: ['/m/model.safetensors'],
    tensors: new Map(tensors.map((one) => [one.name, one])),
  });
const plain = () => ({ part: 'rest', isSurplusExpert: false });
function refusal(weights: CheckpointWeights): string {
  try {
    assertComplete(weights.report(plain), ['/m/model.safetensors']);
  } catch (error) {
    expect(error).toBeInstanceOf(CheckpointError);
    return (error as Error).message;
  }
  return 'none';
}

describe('a checkpoint that does not fit', () => {
  it.each(['I8', 'F8_E4M3', 'C64'] as const)('of dtype %s is to be saved in another', (dtype) => {
    const weights = weightsOf(tensor('a', dtype, [2]));
    expect(weights.request('a', [2])).toBeUndefined();
    expect(refusal(weights)).toMatch(
      new RegExp(
        `a in /m/model\\.safetensors has dtype ${dtype}; expected F32, F16 or BF16\\. Save the model`,
      ),
    );
  });

  it('of another shape or without a tensor may belong to another config.json', () => {
    const weights = weightsOf(tensor('a', 'F32', [2]));
    weights.request('a', [3]);
    weights.request('b', [3]);
    expect(refusal(weights)).toMatch(
      /missing: b; mismatched: a in .* has shape \[2\]; expected \[3\].*config\.json belongs/,
    );
  });

  it('is not asked on and on for what it does not have', () => {
    const weights = weightsOf(tensor('a', 'F32', [2]));
    let asked = 0;
    expect(() => {
      for (; asked < 1e6; asked++) weights.request(`layers.${asked}.weight`, [1]);
    }).toThrow(
      /more than 10000 tensors that are not among the 1 here, such as layers\.0\.weight, layers\.1\.weight/,
    );
    expect(asked).toBe(10_000);
  });
});
