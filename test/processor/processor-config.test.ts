import { describe, expect, it } from 'vitest';
import { ConfigError, HubError } from '../../src/errors.ts';
import { readProcessorConfig } from '../../src/processor/processor-config.ts';
import { folderRepo } from '../models/qwen3_vl_moe/goldens.ts';

const read = (files: Record<string, unknown>) => {
  const overrides = Object.entries(files).map(([name, value]) => {
    if (value === null || typeof value === 'string') return [name, value];
    return [name, JSON.stringify(value)];
  });
  return readProcessorConfig(folderRepo(undefined, Object.fromEntries(overrides)));
};

describe('readProcessorConfig', () => {
  it('reads image and video settings of a repo', async () => {
    const { image, video } = await read({});
    expect(image).toEqual({
      bounds: { minPixels: 4096, maxPixels: 40960 },
      patchSize: 16,
      temporalPatchSize: 2,
      mergeSize: 2,
      rescaleFactor: 1 / 255,
      normalize: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
    });
    expect(video.bounds).toEqual({ minPixels: 4096, maxPixels: 81920 });
  });

  it('prefers the sections of processor_config.json', async () => {
    const { image, video } = await read({
      'processor_config.json': {
        image_processor: { patch_size: 14, size: { shortest_edge: 100, longest_edge: 200 } },
        video_processor: { cap_pixels_per_frame: true, max_video_tokens: 9 },
      },
    });
    expect([image.patchSize, image.bounds]).toEqual([14, { minPixels: 100, maxPixels: 200 }]);
    expect([video.patchSize, video.maxFrameTokens]).toEqual([16, 9]);
  });

  it('takes the image settings for videos where the repo has no others', async () => {
    const { video } = await read({ 'video_preprocessor_config.json': null });
    expect(video.bounds).toEqual({ minPixels: 4096, maxPixels: 40960 });
  });

  it('knows min_pixels and max_pixels, nulls, and steps that are switched off', async () => {
    const { image } = await read({
      'preprocessor_config.json': {
        min_pixels: 50,
        max_pixels: 60,
        size: null,
        do_rescale: false,
        do_normalize: false,
      },
    });
    expect(image.bounds).toEqual({ minPixels: 50, maxPixels: 60 });
    expect([image.rescaleFactor, image.normalize]).toEqual([undefined, undefined]);
    const unresized = await read({ 'preprocessor_config.json': { do_resize: false } });
    expect(unresized.image.bounds).toBeUndefined();
  });

  it.each([
    ['a string for a size', { patch_size: '16' }, /preprocessor_config\.json: patch_size is "16"/],
    ['a size of zero', { merge_size: 0 }, /preprocessor_config\.json: merge_size is 0/],
    ['patches of a picture each', { patch_size: 2 ** 20 }, /patch_size is 1048576/],
    ['tokens of a picture each', { patch_size: 64, merge_size: 64 }, /merge_size is 64; expected at most 8/],
    ['patches of a film', { temporal_patch_size: 64 }, /temporal_patch_size is 64/],
    ['a list without end', { image_mean: Array(70_000).fill(0.5) }, /image_mean has 70000 entries; .* 65536/],
    ['two channel means', { image_mean: [0.5, 0.5] }, /image_mean is \[0\.5,0\.5\]/],
    ['a deviation of zero', { image_std: [0.5, 0, 0.5] }, /image_std/],
    ['another filter', { resample: 2 }, /resample is 2; only 3 \(bicubic\)/],
    ['a negative edge', { size: { longest_edge: -1 } }, /size\.longest_edge is -1/],
    [
      'bounds the wrong way round',
      { min_pixels: 9, max_pixels: 4 },
      /size asks for at least 9 and at most 4 pixels/,
    ],
    ['a list', [], /preprocessor_config\.json: the file is \[\]; expected an object/],
    ['broken JSON', '{"size": ', /preprocessor_config\.json is not valid JSON/],
  ])('refuses %s, naming file, field and value', async (_, settings, message) => {
    const reading = read({ 'preprocessor_config.json': settings });
    await expect(reading).rejects.toThrow(ConfigError);
    await expect(reading).rejects.toThrow(message);
  });

  it('names the section of a nested field', async () => {
    const reading = read({ 'processor_config.json': { video_processor: { patch_size: -1 } } });
    await expect(reading).rejects.toThrow(/processor_config\.json: video_processor\.patch_size is -1/);
  });

  it('says that the repo has no image settings', async () => {
    await expect(read({ 'preprocessor_config.json': null })).rejects.toThrow(HubError);
  });
});
