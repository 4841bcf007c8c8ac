import { describe, expect, it } from 'vitest';
import type { Grid } from '../../../src/media/types.ts';
import { type VisionShape, visionPositions } from '../../../src/models/qwen3_vl_moe/vision-positions.ts';
import { golden, goldenTensor } from './goldens.ts';
import { visionTower } from './vision-tower.ts';

const shape: VisionShape = { spatialMergeSize: 2, gridSide: 6, headDim: 16 };
const withBlocks = golden.images.items.filter((item) => goldenTensor(`image.${item.name}.blocks`));

function largestDifference(actual: Float64Array[], expected: Float32Array): number {
  const flat = actual.flatMap((row) => [...row]);
  expect(flat.length).toBe(expected.length);
  return flat.reduce((max, v, i) => Math.max(max, Math.abs(v - (expected[i] as number))), 0);
}

describe('visionPositions', () => {
  it('has golden pictures to be checked with', () => {
    expect(withBlocks.map((item) => item.name)).toEqual(['gradient', 'shapes', 'checker_rgba']);
  });

  it.each(withBlocks)('let the vision tower reproduce the reference on $name', ({ name, image_grid_thw }) => {
    const pixels = goldenTensor(`image.${name}.pixel_values`) as Float32Array;
    const tower = visionTower(pixels, visionPositions([image_grid_thw], shape));
    expect(
      largestDifference(tower.blocks.flat(), goldenTensor(`image.${name}.blocks`) as Float32Array),
    ).toBeLessThan(2e-5);
    expect(
      largestDifference(tower.embeds, goldenTensor(`image.${name}.embeds`) as Float32Array),
    ).toBeLessThan(2e-5);
    const deepstack = goldenTensor(`image.${name}.deepstack`) as Float32Array;
    expect(largestDifference(tower.deepstack.flat(), deepstack)).toBeLessThan(2e-5);
  });

  it('gives pictures of a batch what they get alone', () => {
    const grids: Grid[] = [
      [1, 4, 6],
      [1, 8, 4],
    ];
    const together = visionPositions(grids, shape);
    const alone = grids.map((grid) => visionPositions([grid], shape));
    for (const key of ['indices', 'weights', 'cos', 'sin'] as const) {
      expect([...together[key]]).toEqual(alone.flatMap((one) => [...one[key]]));
    }
    expect([...together.cuSeqlens]).toEqual([0, 24, 56]);
  });

  it('gives every frame of a video the same positions and a stretch of its own', () => {
    const video = visionPositions([[3, 4, 4]], shape);
    const frame = visionPositions([[1, 4, 4]], shape);
    expect([...video.indices]).toEqual([...frame.indices, ...frame.indices, ...frame.indices]);
    expect([...video.sin]).toEqual([...frame.sin, ...frame.sin, ...frame.sin]);
    expect([...video.cuSeqlens]).toEqual([0, 16, 32, 48]);
  });

  it('stretches the learned grid corner to corner, with weights that sum to 1', () => {
    const { indices, weights, patches } = visionPositions([[1, 10, 14]], shape);
    for (let p = 0; p < patches; p++) {
      expect(weights.subarray(p * 4, p * 4 + 4).reduce((sum, w) => sum + w, 0)).toBeCloseTo(1, 6);
    }
    expect([indices[0], weights[0]]).toEqual([0, 1]);
    const last = (patches - 1) * 4;
    expect(indices[last]).toBe(35);
    expect(weights[last]).toBe(1);
    expect(Math.max(...indices)).toBeLessThan(36);
  });
});
