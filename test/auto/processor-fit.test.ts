/** Settings of processors that are of another model. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import {
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoProcessor,
  ConfigError,
  InputError,
  TokenizerError,
} from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';

const scratch: string[] = [];
afterEach(() => {
  for (const folder of scratch.splice(0)) rmSync(folder, { recursive: true });
});

/** A golden model of which files say something else. */
function changed(name: string, files: Readonly<Record<string, object | null>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'unfit-'));
  scratch.push(folder);
  cpSync(goldenModel(name), folder, { recursive: true });
  for (const [file, fields] of Object.entries(files)) {
    const path = join(folder, file);
    if (fields === null) rmSync(path);
    else
      writeFileSync(
        path,
        JSON.stringify({
          ...JSON.parse(readFileSync(path, 'utf8')),
          ...fields,
        }),
      );
  }
  return folder;
}

const IMAGE = 'preprocessor_config.json';
const VIDEO = 'video_preprocessor_config.json';
const HEARS = 'qwen3_omni_moe_l';
/** A second of sound: 100 frames. */
const SECOND = {
  samples: Float32Array.from({ length: 16_000 }, (_, i) => 0.3 * Math.sin(i / 9)),
  samplingRate: 16_000,
};

describe('a processor that is not of its model', () => {
  it.each([
    [
      'qwen3_vl_moe_e',
      IMAGE,
      { patch_size: 14 },
      'patch_size is 14; expected 16, as vision_config.patch_size of config.json',
    ],
    [
      'qwen3_vl_moe_e',
      IMAGE,
      { patch_size: null },
      'patch_size, which it leaves to its default, is 14; expected 16',
    ],
    [
      'qwen3_vl_moe_e',
      IMAGE,
      { merge_size: 4 },
      'merge_size is 4; expected 2, as vision_config.spatial_merge_size of config.json',
    ],
    [
      'qwen3_5_moe_j',
      IMAGE,
      { temporal_patch_size: 1 },
      'temporal_patch_size is 1; expected 2, as vision_config.temporal_patch_size',
    ],
    ['qwen3_vl_moe_e', VIDEO, { merge_size: 1 }, 'merge_size is 1; expected 2'],
    ['qwen4_exp_k', VIDEO, { patch_size: 16 }, 'patch_size is 16; expected 8'],
    [
      'qwen3_omni_moe_l',
      IMAGE,
      { feature_size: 80 },
      'feature_size is 80; expected 16, as audio_config.num_mel_bins of config.json',
    ],
  ])('is refused when %s is loaded: %s with %o', async (name, file, fields, message) => {
    const folder = changed(name, { [file]: fields });
    for (const load of [AutoProcessor, AutoModelForImageTextToText]) {
      await expect(load.fromPretrained(folder)).rejects.toThrow(ConfigError);
      await expect(load.fromPretrained(folder)).rejects.toThrow(`${file}: ${message}`);
      await expect(load.fromPretrained(folder)).rejects.toThrow(/take both from one repo/);
    }
  });

  it('stands in processor_config.json by its section', async () => {
    const folder = changed('qwen3_vl_moe_e', {});
    writeFileSync(
      join(folder, 'processor_config.json'),
      JSON.stringify({ video_processor: { patch_size: 14 } }),
    );
    await expect(AutoModelForImageTextToText.fromPretrained(folder)).rejects.toThrow(
      'processor_config.json: video_processor.patch_size is 14; expected 16',
    );
  });

  it('may have a tokenizer of other ids, which is refused', async () => {
    const folder = changed('qwen3_vl_moe_e', {
      'config.json': { image_token_id: 7 },
    });
    const refused = /the tokenizer has <\|image_pad\|> as token 1002, but config\.json says 7/;
    await expect(AutoProcessor.fromPretrained(folder)).rejects.toThrow(TokenizerError);
    await expect(AutoProcessor.fromPretrained(folder)).rejects.toThrow(refused);
    const model = await AutoModelForImageTextToText.fromPretrained(folder, {
      threads: 1,
    });
    await expect(
      model.generate({
        messages: [{ role: 'user', content: 'Hi' }],
        maxNewTokens: 1,
      }),
    ).rejects.toThrow(refused);
    await model.dispose();
  });
});

describe('a model without a processor beside it', () => {
  it('opens, and as a text model opens whatever the processor says', async () => {
    const bare = changed('qwen3_vl_moe_e', { [IMAGE]: null, [VIDEO]: null });
    await (await AutoModelForImageTextToText.fromPretrained(bare, { threads: 1 })).dispose();
    const text = changed('qwen3_5_moe_j', { [IMAGE]: { patch_size: 14 } });
    await (await AutoModelForCausalLM.fromPretrained(text, { threads: 1 })).dispose();
  });

  it('leaves its processor to be loaded where the model is not supported', async () => {
    const other = changed('qwen3_vl_moe_e', {
      'config.json': { model_type: 'qwen2_5_vl' },
      [IMAGE]: { patch_size: 14 },
    });
    expect((await AutoProcessor.fromPretrained(other)).config.image.patchSize).toBe(14);
    const alone = changed('qwen3_vl_moe_e', { 'config.json': null });
    expect((await AutoProcessor.fromPretrained(alone)).config.image.patchSize).toBe(16);
  });

  it('leaves nobody to say how many tokens a sound takes, which is refused', async () => {
    const alone = await AutoProcessor.fromPretrained(changed(HEARS, { 'config.json': null }));
    expect(alone.config.sound?.bands).toBe(16);
    const call = alone({ text: alone.audioMark, audio: SECOND });
    await expect(call).rejects.toThrow(InputError);
    await expect(call).rejects.toThrow(/how many tokens a sound takes is for the model to say.*config\.json/);
    expect((await alone({ text: 'Words' })).mmTokenTypeIds.flat()).not.toContain(3);
  });
});

describe('a processor of a model that is known', () => {
  it.each([
    [50, 13],
    [25, 14],
  ])(
    'counts the tokens of a sound as the model does, in chunks of twice %d frames',
    async (window, tokens) => {
      const { thinker_config: thinker } = JSON.parse(
        readFileSync(join(goldenModel(HEARS), 'config.json'), 'utf8'),
      );
      const audio_config = { ...thinker.audio_config, n_window: window };
      const folder = changed(HEARS, { 'config.json': { thinker_config: { ...thinker, audio_config } } });
      const processor = await AutoProcessor.fromPretrained(folder);
      const inputs = await processor({ text: processor.audioMark, audio: SECOND });
      expect(inputs.mmTokenTypeIds.flat().filter((type) => type === 3)).toHaveLength(tokens);
      const model = await AutoModelForImageTextToText.fromPretrained(folder, { threads: 1 });
      expect((await model.forward(inputs)).logits.dims[1]).toBe(inputs.inputIds[0]?.length);
      await model.dispose();
    },
  );

  it('takes clips where the model tells times apart from the prompt, and sounds where it hears', async () => {
    const deaf = changed('qwen3_vl_moe_e', {
      [IMAGE]: { feature_extractor_type: 'WhisperFeatureExtractor' },
    });
    const { config } = await AutoProcessor.fromPretrained(deaf);
    expect([config.video.wholeClip, config.sound]).toEqual([false, undefined]);
    const unsaid = changed(HEARS, { [IMAGE]: { feature_extractor_type: null } });
    expect((await AutoProcessor.fromPretrained(unsaid)).config.video.wholeClip).toBe(true);
  });
});
