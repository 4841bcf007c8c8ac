import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { InputError, TokenizerError } from '../../src/errors.ts';
import type { VideoInput } from '../../src/media/types.ts';
import { qwen3_vl_moe } from '../../src/models/qwen3_vl_moe/model.ts';
import { processImages, processVideos } from '../../src/processor/image-processor.ts';
import { loadProcessor, type Processor } from '../../src/processor/processor.ts';
import { loadTokenizer } from '../../src/tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { FOLDER, folderRepo, golden, goldenTensor, noise } from '../models/qwen3_vl_moe/goldens.ts';

let processor: Processor<Tokenizer>;
beforeAll(async () => {
  const repo = folderRepo();
  processor = await loadProcessor(repo, await loadTokenizer(repo));
});

const pathOf = (name: string) => `${FOLDER}images/${name}.png`;
const prompt = (name: string) =>
  golden.prompts.find((one) => one.name === name) as (typeof golden.prompts)[0];
const [p0, p1, p2, p3] = ['p0', 'p1', 'p2', 'p3'].map(prompt) as [
  (typeof golden.prompts)[0],
  (typeof golden.prompts)[0],
  (typeof golden.prompts)[0],
  (typeof golden.prompts)[0],
];

describe('what pictures come to', () => {
  const dot = { data: new Uint8Array(3), width: 1, height: 1, channels: 3 };
  // Every frame is enlarged to a token, which a config makes large.
  const wide = { patchSize: 256, mergeSize: 2, bounds: { minPixels: 1, maxPixels: 2 ** 31 - 1 } };

  it('is bounded before they are resized', async () => {
    const config = { ...processor.config.image, ...wide, maxFrameTokens: undefined, wholeClip: false };
    const video = { frames: Array.from({ length: 4000 }, () => dot), fps: 1 };
    await expect(processVideos([video], config)).rejects.toThrow(
      /video 1 comes to 2000 x 2 x 2 patches.*3145728000 values; at most 2147483648/,
    );
    const many = Array.from({ length: 3000 }, () => dot);
    await expect(
      processImages(many, { ...config, bounds: { minPixels: 2 ** 22, maxPixels: 2 ** 31 - 1 } }),
    ).rejects.toThrow(/^image \d+ comes to .* at most 2147483648/);
  });

  it('goes by limits that are numbers', async () => {
    const ask = (limits: object) => processor({ text: processor.imageMark, images: dot, limits });
    await expect(ask({ maxPixels: Number.NaN })).rejects.toThrow(
      /limits\.maxPixels is NaN; expected a number above 0/,
    );
    await expect(ask({ maxBytes: '9' })).rejects.toThrow(/limits\.maxBytes is "9"/);
    await expect(ask({ maxSecond: 9 })).rejects.toThrow(/maxSeconds/);
  });
});

describe('Processor on golden prompts', () => {
  it.each(golden.prompts)('lays out $name and expands its placeholders', async (item) => {
    const text = processor.applyChatTemplate(item.messages, { tokenize: false, addGenerationPrompt: true });
    expect(text).toBe(item.text);
    const inputs = await processor({ text, images: item.images.map(pathOf) });
    expect(inputs.inputIds).toEqual([item.input_ids]);
    expect(inputs.mmTokenTypeIds).toEqual([item.mm_token_type_ids]);
    expect(inputs.attentionMask).toEqual([item.input_ids.map(() => 1)]);
    expect(inputs.imageGridThw ?? []).toEqual(item.image_grid_thw);
    if (item.images.length === 0) expect(inputs.pixelValues).toBeUndefined();
    else {
      const expected = item.images.flatMap((name) => [
        ...(goldenTensor(`image.${name}.pixel_values`) as Float32Array),
      ]);
      expect(inputs.pixelValues?.dims).toEqual([expected.length / 1536, 1536]);
      expect(Buffer.compare(bytesOf(inputs.pixelValues?.data), bytesOf(Float32Array.from(expected)))).toBe(0);
    }
  });

  it.each(golden.batches)('pads rows $rows on the left', async (batch) => {
    const rows = batch.rows.map(prompt);
    const inputs = await processor({
      text: rows.map((row) => row.text),
      images: rows.flatMap((row) => row.images.map(pathOf)),
    });
    expect(inputs.inputIds).toEqual(batch.input_ids);
    expect(inputs.attentionMask).toEqual(batch.attention_mask);
    expect(inputs.mmTokenTypeIds).toEqual(batch.mm_token_type_ids);
    expect(inputs.imageGridThw).toEqual(batch.image_grid_thw);
  });

  it('takes the pictures of each text as a list of their own', async () => {
    const [gradient, shapes] = ['gradient', 'shapes'].map(pathOf) as [string, string];
    const inputs = await processor({ text: [p3.text, p2.text], images: [[], [gradient, shapes]] });
    expect(inputs.inputIds[1]).toEqual(p2.input_ids);
    expect(inputs.imageGridThw).toEqual(p2.image_grid_thw);
  });

  it('leaves rows ragged without padding', async () => {
    const inputs = await processor({
      text: [p0.text, p1.text],
      images: [pathOf('gradient'), pathOf('shapes')],
      padding: false,
    });
    expect(inputs.inputIds).toEqual([p0.input_ids, p1.input_ids]);
    expect(inputs.attentionMask.map((row) => row.length)).toEqual([p0.input_ids.length, p1.input_ids.length]);
  });
});

function bytesOf(values: Float32Array | undefined): Buffer {
  if (!values) throw new Error('no pixel values');
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
}

describe('applyChatTemplate', () => {
  const question = { type: 'text', text: 'What is in picture 3?' };
  const chat = (part: Record<string, unknown>) => [{ role: 'user', content: [part, question] }];

  it.each([
    ['image', { type: 'image', image: pathOf('gradient') }],
    ['url', { type: 'image', url: new URL(`file://${pathOf('gradient')}`) }],
    ['path', { type: 'image', path: pathOf('gradient') }],
    ['image_url', { type: 'image_url', image_url: { url: dataUrl('gradient') } }],
    ['bytes', { type: 'image', image: readFileSync(pathOf('gradient')) }],
  ])('takes the picture of a part given as %s', async (_, part) => {
    const inputs = await processor.applyChatTemplate(chat(part), { addGenerationPrompt: true });
    expect(inputs.inputIds).toEqual([p0.input_ids]);
    expect(inputs.imageGridThw).toEqual(p0.image_grid_thw);
  });

  it('fills parts without a picture from the images option, in order', async () => {
    const images = p2.images.map(pathOf);
    const inputs = await processor.applyChatTemplate(p2.messages, { images, addGenerationPrompt: true });
    expect(inputs.inputIds).toEqual([p2.input_ids]);
  });

  it('passes further options to the template', () => {
    const text = processor.applyChatTemplate(p0.messages, { tokenize: false, add_vision_id: true });
    expect(text).toContain('Picture 1: <|vision_start|>');
  });

  it('refuses pictures and parts that do not match up', async () => {
    const apply = (part: Record<string, unknown>, images: string[] = []) =>
      processor.applyChatTemplate(chat(part), { images });
    await expect(apply({ type: 'image' })).rejects.toThrow(
      /messages\[0\]\.content\[0\] is the part of image 1, but 0 were passed/,
    );
    await expect(apply({ type: 'image' }, [pathOf('shapes'), pathOf('gradient')])).rejects.toThrow(
      /2 images were passed, but the messages have parts for 1/,
    );
    await expect(apply({ type: 'image', image: 'a.png', url: 'b.png' })).rejects.toThrow(/names 2 pictures/);
    for (const image of [[], [pathOf('shapes')], [pathOf('shapes'), pathOf('gradient')]])
      await expect(apply({ type: 'image', image })).rejects.toThrow(
        `messages[0].content[0] names ${image.length} pictures; expected one, and a part for each`,
      );
    await expect(apply({ type: 'video', video: 'film.mp4' })).rejects.toThrow(/video files are not decoded/);
    // A template would leave these out without a word.
    for (const part of [{ type: 'input_audio', input_audio: {} }, { audio_url: 'a.mp3' }, { type: 'audio' }])
      await expect(apply(part)).rejects.toThrow(/^messages\[0\]\.content\[0\] is of type .*does not hear/);
    await expect(apply({ type: 'video_url', video_url: { url: 'a' } })).rejects.toThrow(
      /pass sampled frames/,
    );
  });
});

function dataUrl(name: string): string {
  return `data:image/png;base64,${readFileSync(pathOf(name)).toString('base64')}`;
}

describe('videos', () => {
  const frames = [0, 1, 2].map((i) => ({ ...noise(70, 90, i * 1000), channels: 3 }));
  const part = { type: 'video', video: frames, fps: 2 };
  const messages = [{ role: 'user', content: [part, { type: 'text', text: 'What moves?' }] }];

  // What transformers 5.18 makes of these three frames at 2 frames a second.
  const expected = {
    ids: [
      991, 82, 88, 913, 573, 198, 56, 78, 84, 280, 78, 78, 74, 220, 314, 420, 297, 418, 13, 992, 198, 991,
      706, 198, 999, 27, 15, 13, 17, 324, 82, 29, 999, 1003, 1003, 1003, 1003, 1003, 1003, 1000, 27, 16, 13,
      15, 324, 82, 29, 999, 1003, 1003, 1003, 1003, 1003, 1003, 1000, 1000, 712, 281, 78, 85, 279, 30, 992,
      198, 991, 416, 82, 72, 913, 272, 83, 198,
    ],
    digest: '3f6ed87980ac79e6',
    widthPositions: [32, 33, 34, 35, 33, 34, 35, 36],
    delta: -6,
  };

  it('become timed groups of tokens and patches as in the reference', async () => {
    const inputs = await processor.applyChatTemplate(messages, { addGenerationPrompt: true });
    expect(inputs.inputIds).toEqual([expected.ids]);
    expect(inputs.videoGridThw).toEqual([[2, 4, 6]]);
    expect(inputs.pixelValuesVideos?.dims).toEqual([48, 1536]);
    const digest = createHash('sha256').update(bytesOf(inputs.pixelValuesVideos?.data)).digest('hex');
    expect(digest.slice(0, 16)).toBe(expected.digest);
    const model = qwen3_vl_moe.parse(JSON.parse(readFileSync(`${FOLDER}config.json`, 'utf8')), 'config.json');
    const grids = { images: [], videos: inputs.videoGridThw ?? [] };
    const placed = model.media?.positions(inputs.mmTokenTypeIds[0] as number[], grids);
    expect([...(placed?.positions[2]?.subarray(32, 40) ?? [])]).toEqual(expected.widthPositions);
    expect(placed?.delta).toBe(expected.delta);
  });

  it('stand beside pictures in one prompt', async () => {
    const content = [{ type: 'image', image: pathOf('gradient') }, part];
    const inputs = await processor.applyChatTemplate([{ role: 'user', content }]);
    expect(inputs.imageGridThw).toEqual([[1, 4, 6]]);
    expect(inputs.videoGridThw).toEqual([[2, 4, 6]]);
    const types = inputs.mmTokenTypeIds[0] as number[];
    expect([1, 2].map((type) => types.filter((one) => one === type).length)).toEqual([6, 12]);
  });

  it('are refused with frames of different sizes, or without times', async () => {
    const text = '<|vision_start|><|video_pad|><|vision_end|>';
    const run = (video: VideoInput) => processor({ text, videos: video });
    const other = { ...noise(64, 64), channels: 3 };
    await expect(run({ frames: [...frames, other], fps: 2 })).rejects.toThrow(
      /video 1, frame 4 is 64 x 64 pixels, but frame 1 is 90 x 70/,
    );
    await expect(run({ frames })).rejects.toThrow(/video 1 has neither fps nor timestamps/);
    await expect(run({ frames, fps: 0 })).rejects.toThrow(/fps is 0; expected a number above 0/);
    await expect(run({ frames, timestamps: [0, 1] })).rejects.toThrow(/3 frames but 2 timestamps/);
    await expect(run({ frames, timestamps: [0, 2, 1] })).rejects.toThrow(
      /timestamps\[2\] is 1; expected seconds, 2/,
    );
    await expect(run({ frames: [], fps: 2 })).rejects.toThrow(/expected a list of one or more pictures/);
  });
});

describe('mistakes', () => {
  it('counts placeholders and pictures before loading any', async () => {
    await expect(processor({ text: p2.text, images: 'nowhere.png' })).rejects.toThrow(
      /the text has 2 image placeholders \(<\|image_pad\|>\), but 1 image was given/,
    );
    await expect(processor({ text: 'hello', images: ['nowhere.png', 'x.png'] })).rejects.toThrow(
      /the text has 0 image placeholders .*, but 2 images were given: put <\|vision_start\|><\|image_pad\|>/,
    );
    await expect(processor({ text: [p0.text, 'hello'] })).rejects.toThrow(
      /the 2 texts together have 1 image placeholder .*, but 0 images were given/,
    );
  });

  it('takes lists of pictures only as one, or as one for each text', async () => {
    const [one, two] = [pathOf('gradient'), pathOf('shapes')] as [string, string];
    const text = [p0.text, p1.text];
    const ask = (images: unknown) => processor({ text, images: images as string[] });
    await expect(ask([[one], [two], []])).rejects.toThrow(
      /images has 3 lists for 2 texts; give a list for each text/,
    );
    await expect(ask([[one, two]])).rejects.toThrow(/images has 1 list for 2 texts/);
    await expect(ask([one, [two]])).rejects.toThrow(/images holds lists and single entries; give either/);
    await expect(ask([[one, two], []])).rejects.toThrow(
      /text 1 has 1 image placeholder .*, but 2 images were given/,
    );
    await expect(ask([[], [one, two]])).rejects.toThrow(
      /text 1 has 1 image placeholder .*, but 0 images were given/,
    );
    const inputs = await ask([[one], [two]]);
    expect(inputs).toEqual(await ask([one, two]));
    const clips = { frames: [one, one], fps: 2 };
    await expect(processor({ text: ['a', 'b'], videos: [[clips]] })).rejects.toThrow(
      /videos has 1 list for 2 texts/,
    );
    await expect(processor.applyChatTemplate(p0.messages, { images: [[one], [two]] })).rejects.toThrow(
      /images has 2 lists for 1 text/,
    );
    const nested = await processor.applyChatTemplate(p0.messages, {
      images: [[one]],
      addGenerationPrompt: true,
    });
    expect(nested.inputIds).toEqual([p0.input_ids]);
  });

  it('names the picture that cannot be used', async () => {
    await expect(processor({ text: p2.text, images: [pathOf('shapes'), 'nowhere.png'] })).rejects.toThrow(
      /image 2 \(nowhere\.png\): there is no such file/,
    );
    const strip = { data: new Uint8Array(3 * 700 * 3), width: 3, height: 700, channels: 3 };
    await expect(processor({ text: p0.text, images: strip })).rejects.toThrow(/image 1 is 3 x 700 pixels/);
  });

  it('refuses what is no text', async () => {
    await expect(processor({ text: 7 as unknown as string })).rejects.toThrow(InputError);
    await expect(processor({ text: [] })).rejects.toThrow(/text is \[\]; expected a text or a list of texts/);
  });

  it('refuses a tokenizer that has no placeholder tokens', async () => {
    const tokenizer = { ...processor.tokenizer, tokenToId: () => undefined } as unknown as Tokenizer;
    await expect(loadProcessor(folderRepo(), tokenizer)).rejects.toThrow(TokenizerError);
  });
});
