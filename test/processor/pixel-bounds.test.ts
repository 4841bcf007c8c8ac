import { describe, expect, it } from 'vitest';
import { AutoProcessor, type ImageInput, InputError } from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';

const VL = goldenModel('qwen3_vl_moe_e');
const picture = (side: number): ImageInput => ({
  data: new Uint8Array(side * side * 3).fill(90),
  width: side,
  height: side,
  channels: 3,
});
const text = '<|vision_start|><|image_pad|><|vision_end|>What?';
const clip = { frames: [picture(256), picture(256)], fps: 1 };
const clipText = '<|vision_start|><|video_pad|><|vision_end|>What?';

const processor = await AutoProcessor.fromPretrained(VL);
const { patchSize } = processor.config.image;
const pixels = (grids: readonly (readonly [number, number, number])[] | undefined) =>
  (grids ?? []).map(([t, h, w]) => t * h * w * patchSize ** 2);

describe('bounds on the pixels of a picture', () => {
  const wanted = { minPixels: 1024, maxPixels: 4096 };

  it('hold at load, at the call and in a part of a message', async () => {
    const loaded = await AutoProcessor.fromPretrained(VL, wanted);
    const images = [picture(256)];
    const messages = (more: object) => [
      {
        role: 'user',
        content: [
          { type: 'image', image: picture(256), ...more },
          { type: 'text', text: 'What?' },
        ],
      },
    ];
    const results = [
      await loaded({ text, images }),
      await processor({ text, images, ...wanted }),
      await processor({ text, images, size: { shortestEdge: 1024, longestEdge: 4096 } }),
      await processor({ text, images, maxPixels: 4096 }),
      await processor.applyChatTemplate(messages({}), wanted),
      await processor.applyChatTemplate(messages(wanted)),
      await processor.applyChatTemplate(messages({ min_pixels: 1024, max_pixels: 4096 })),
      await processor.applyChatTemplate(messages(wanted), { maxPixels: 2 ** 20 }),
    ];
    for (const { imageGridThw } of results) expect(pixels(imageGridThw)).toEqual([4096]);
    expect(pixels((await processor({ text, images })).imageGridThw)[0]).toBeGreaterThan(4096);
  });

  it('of a part concern that part alone, and are not shown to the template', async () => {
    const content = [
      { type: 'image', image: picture(256), maxPixels: 1024 },
      { type: 'image' },
      { type: 'image', image: picture(256), max_pixels: 16384 },
    ];
    const messages = [{ role: 'user', content }];
    const { imageGridThw } = await processor.applyChatTemplate(messages, {
      images: picture(256),
      maxPixels: 4096,
    });
    expect(pixels(imageGridThw)).toEqual([1024, 4096, 16384]);
    const plain = [{ role: 'user', content: content.map(() => ({ type: 'image' })) }];
    expect(processor.applyChatTemplate(messages, { tokenize: false })).toBe(
      processor.applyChatTemplate(plain, { tokenize: false }),
    );
  });

  it('enlarge small pictures', async () => {
    const { imageGridThw } = await processor({
      text,
      images: picture(32),
      minPixels: 2 ** 18,
      maxPixels: 2 ** 20,
    });
    expect(pixels(imageGridThw)[0]).toBeGreaterThanOrEqual(2 ** 18);
  });

  it('are on all frames of a video together', async () => {
    const bounded = await processor({ text: clipText, videos: clip, maxPixels: 16384 });
    expect(pixels(bounded.videoGridThw)[0]).toBeLessThanOrEqual(16384);
    const messages = [{ role: 'user', content: [{ type: 'video', video: clip, maxPixels: 16384 }] }];
    expect((await processor.applyChatTemplate(messages)).videoGridThw).toEqual(bounded.videoGridThw);
    const free = await processor({ text: clipText, videos: clip });
    expect(pixels(free.videoGridThw)[0]).toBeGreaterThan(16384);
  });

  it.each<[object, RegExp]>([
    [{ maxPixels: 0 }, /maxPixels is 0; expected a whole number of pixels/],
    [{ maxPixels: '1MP' }, /maxPixels is "1MP"/],
    [{ minPixels: 1e12 }, /minPixels is 1000000000000/],
    [{ minPixels: 9000, maxPixels: 4096 }, /minPixels is 9000; expected at most maxPixels \(4096\)/],
    [{ size: { shortest_edge: 1 } }, /size: "shortest_edge" is not an option\. Did you mean "shortestEdge"/],
    [{ size: 4096 }, /size: the options are 4096; expected an object/],
    [{ maxPixel: 4096 }, /Did you mean "maxPixels"/],
  ])('are refused where they make no sense: %j', async (options, message) => {
    const calls = [
      () => processor({ text, images: picture(64), ...options }),
      () => AutoProcessor.fromPretrained(VL, options),
      () =>
        processor.applyChatTemplate([{ role: 'user', content: [{ type: 'image' }] }], {
          images: picture(64),
          ...options,
        }),
    ];
    for (const call of calls) {
      const refusal = (async () => void (await call()))();
      await expect(refusal).rejects.toThrow(message);
      await expect(refusal).rejects.toBeInstanceOf(InputError);
    }
  });

  it.each(['resized_height', 'resized_width', 'total_pixels'])('are not given by %s', async (key) => {
    const messages = [{ role: 'user', content: [{ type: 'image', image: picture(64), [key]: 64 }] }];
    await expect(processor.applyChatTemplate(messages)).rejects.toThrow(
      new RegExp(`messages\\[0\\]\\.content\\[0\\]: ${key} is not supported`),
    );
  });
});

it('limits of what is read are known by name', async () => {
  const call = processor({ text, images: picture(64), limits: { maxPixel: 5 } as never });
  await expect(call).rejects.toThrow(/limits: "maxPixel" is not an option\. Did you mean "maxPixels"\?/);
});

describe('options of a chat template', () => {
  const messages = [{ role: 'user', content: 'Hi' }];

  it('that look like known ones are taken for these', () => {
    for (const [name, meant] of [
      ['add_generation_prompt', 'addGenerationPrompt'],
      ['addGenerationPromt', 'addGenerationPrompt'],
    ])
      expect(() =>
        processor.applyChatTemplate(messages, { [name as string]: true, tokenize: false }),
      ).toThrow(`Did you mean "${meant}"?`);
  });

  it('may be variables of any other name', () => {
    processor.applyChatTemplate(messages, {
      enable_thinking: false,
      add_vision_id: true,
      x: 1,
      tokenize: false,
    });
  });
});
