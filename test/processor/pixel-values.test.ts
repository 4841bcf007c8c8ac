import { describe, expect, it } from 'vitest';
import { loadImage } from '../../src/media/load-image.ts';
import { Pacer } from '../../src/media/pacer.ts';
import { resizeBicubic } from '../../src/media/resize.ts';
import { type PatchRule, patchGrid, patchLength, writePatches } from '../../src/processor/patches.ts';
import { smartResize } from '../../src/processor/smart-resize.ts';
import { FOLDER, golden, goldenTensor } from '../models/qwen3_vl_moe/goldens.ts';

const rule: PatchRule = {
  patchSize: 16,
  temporalPatchSize: 2,
  mergeSize: 2,
  rescaleFactor: 1 / 255,
  normalize: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
};

async function pixelValues(path: string) {
  const image = await loadImage(path);
  const size = smartResize(image, { factor: 32, minPixels: 4096, maxPixels: 40960 });
  const resized = await resizeBicubic(image, size);
  const grid = patchGrid(1, size.height, size.width, rule);
  const values = new Float32Array(grid[0] * grid[1] * grid[2] * patchLength(rule));
  await writePatches(values, 0, [resized], rule, new Pacer('preparing'));
  return { image, grid, values };
}

/** Largest and mean absolute difference. */
function compare(actual: Float32Array, expected: Float32Array) {
  expect(actual.length).toBe(expected.length);
  let max = 0;
  let sum = 0;
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs((actual[i] as number) - (expected[i] as number));
    max = Math.max(max, difference);
    sum += difference;
  }
  return { max, mean: sum / actual.length };
}

describe.each(golden.images.items)('pixel values of $name', (item) => {
  it('decode, resize and cut into patches as the reference does', async () => {
    const { image, grid, values } = await pixelValues(`${FOLDER}${item.file}`);
    expect([image.width, image.height]).toEqual([item.width, item.height]);
    const sums = [0, 1, 2].map((c) =>
      image.data.reduce((sum, byte, i) => (i % 3 === c ? sum + byte : sum), 0),
    );
    expect(sums).toEqual(item.rgb_sum);
    expect([...image.data.slice(0, 12)]).toEqual(item.rgb_first_pixels.flat());
    expect(grid).toEqual(item.image_grid_thw);
    expect(compare(values.slice(0, 8), new Float32Array(item.pixel_values_first8)).max).toBeLessThan(1e-7);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean).toBeCloseTo(item.pixel_values_mean, 7);
    const expected = goldenTensor(`image.${item.name}.pixel_values`);
    if (expected) expect(compare(values, expected).max).toBe(0);
  });

  it('stay within one 8-bit step of the other image processor of the reference', async () => {
    const pillow = goldenTensor(`image.${item.name}.pixel_values_pil`);
    if (!pillow) return;
    const { max, mean } = compare((await pixelValues(`${FOLDER}${item.file}`)).values, pillow);
    expect(max).toBeLessThan(1 / 127.5 + 1e-6);
    expect(mean).toBeLessThan(1e-3);
  });
});
