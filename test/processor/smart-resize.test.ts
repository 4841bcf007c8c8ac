import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { roundHalfEven, smartResize, smartResizeVideo } from '../../src/processor/smart-resize.ts';
import { golden } from '../models/qwen3_vl_moe/goldens.ts';

describe('smartResize', () => {
  it.each(golden.images.smart_resize)('$height x $width by $factor as the reference', (item) => {
    const rule = { factor: item.factor, minPixels: item.min_pixels, maxPixels: item.max_pixels };
    const resize = () => smartResize(item, rule);
    if (item.error) {
      expect(resize).toThrow(InputError);
      return;
    }
    const { height, width } = resize();
    expect([height, width]).toEqual(item.result);
  });

  it('names the picture and its aspect when it is too long', () => {
    const rule = { factor: 32, minPixels: 4096, maxPixels: 40960 };
    expect(() => smartResize({ width: 3, height: 700 }, rule, 'image 2')).toThrow(
      /image 2 is 3 x 700 pixels: its longer side is 233\.3 times the shorter one, and 200/,
    );
    expect(smartResize({ width: 1, height: 200 }, rule)).toEqual({ width: 32, height: 928 });
  });

  it('rounds halves to even', () => {
    expect([0.5, 1.5, 2.5, 3.5, 2.4999, 2.5001].map(roundHalfEven)).toEqual([0, 2, 2, 4, 2, 3]);
  });
});

// HF transformers 5.18, Qwen3VLVideoProcessor smart_resize(frames, height, width, 2, 32, 4096, 81920).
const videos: [number, number, number, [number, number]][] = [
  [2, 64, 90, [64, 96]],
  [3, 64, 90, [64, 96]],
  [4, 64, 90, [64, 96]],
  [5, 64, 96, [64, 96]],
  [5, 80, 48, [64, 64]],
  [8, 240, 320, [64, 96]],
  [16, 240, 320, [32, 64]],
  [2, 20, 30, [32, 64]],
  [2, 20, 50, [32, 64]],
  [7, 1080, 1920, [64, 128]],
  [2, 8, 8, [64, 64]],
  [10, 33, 900, [32, 448]],
];

describe('smartResizeVideo', () => {
  it.each(videos)('%i frames of %i x %i as the reference', (frames, height, width, expected) => {
    const rule = { factor: 32, minPixels: 4096, maxPixels: 81920 };
    const size = smartResizeVideo(frames, { height, width }, 2, rule);
    expect([size.height, size.width]).toEqual(expected);
  });

  it('counts a single frame as the pair it is repeated to', () => {
    const rule = { factor: 32, minPixels: 4096, maxPixels: 81920 };
    const size = { height: 64, width: 90 };
    expect(smartResizeVideo(1, size, 2, rule)).toEqual(smartResizeVideo(2, size, 2, rule));
  });
});
