/** The thinker of Qwen3-Omni: text, pictures and sound. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import { findArchitecture } from '../../src/auto/registry.ts';
import {
  AutoModelForImageTextToText,
  AutoProcessor,
  ConfigError,
  type ImageTextForwardInputs,
  type ImageTextToText,
  InputError,
  type PixelValues,
  type Processor,
  type SoundInput,
} from '../../src/index.ts';
import type { ChatMessage, ContentPart } from '../../src/tokenizer/conversation.ts';
import {
  argmax,
  type GoldenModel,
  type GoldenPrompt,
  goldenModel,
  maxDifference,
  readJson,
} from '../helpers/goldens.ts';
import { type MediaPrompt, mediaGolden } from '../helpers/media-goldens.ts';
import { wav } from '../media/wav.ts';

const FOLDER = goldenModel('qwen3_omni_moe_l');
const LOGITS = 1e-4;
interface Batch {
  rows: string[];
  input_ids: number[][];
  attention_mask: number[][];
  tokens: number[][];
}
const { tensors, spectrogram, inputsOf: heardInputs } = mediaGolden('qwen3_omni_moe_l');
type Prompt = MediaPrompt;
const golden = readJson<{ prompts: Prompt[]; batches: Batch[]; text: GoldenModel }>(FOLDER, 'expected.json');
const heard = golden.prompts.filter(({ sounds = [] }) => sounds.length > 0);
const silent = golden.prompts.filter(({ sounds = [] }) => sounds.length === 0);
const greedy = (count: number) => ({ doSample: false, eosTokenId: [], maxNewTokens: count });

describe('qwen3_omni_moe', () => {
  let model: ImageTextToText;
  let processor: Processor;
  const warnings: string[] = [];
  beforeAll(async () => {
    const onWarning = (message: string) => warnings.push(message);
    model = await AutoModelForImageTextToText.fromPretrained(FOLDER, {
      dtype: 'float32',
      threads: 2,
      onWarning,
    });
    processor = await AutoProcessor.fromPretrained(FOLDER);
  });
  afterAll(() => model.dispose());

  const inputsOf = ({ text, images }: Prompt) =>
    processor({ text, images: images.map((name) => join(FOLDER, 'images', `${name}.png`)) });
  function expectLogits(logits: { data: unknown; dims: readonly number[] }, prompt: GoldenPrompt) {
    const vocab = logits.dims[2] as number;
    for (const position of prompt.input_ids.keys()) {
      const row = (logits.data as Float32Array).subarray(position * vocab, (position + 1) * vocab);
      expect(maxDifference(row.slice(0, 8), prompt.logits_first8[position] as number[])).toBeLessThan(LOGITS);
      expect(argmax(row)).toBe(prompt.argmax[position]);
    }
  }

  it.each(silent)('reads text and pictures as transformers does: $name', async (prompt) => {
    const inputs = await inputsOf(prompt);
    expect(inputs.inputIds).toEqual([prompt.input_ids]);
    expectLogits((await model.forward(inputs)).logits, prompt);
    const { tokens } = prompt.greedy;
    const { sequences } = await model.generate({ ...inputs, ...greedy(tokens.length) });
    expect(sequences[0]?.slice(prompt.input_ids.length)).toEqual(tokens);
  });

  it.each(golden.text.prompts)('reads plain tokens as transformers does: $name', async (prompt) => {
    expectLogits((await model.forward({ inputIds: [prompt.input_ids] })).logits, prompt);
  });

  it('leaves what speaks unread without a warning', () => {
    expect(warnings).toEqual([]);
    expect(model.getExpertsImplementation()).toEqual({
      ...{ '': 'grouped_mm', audio_config: 'grouped_mm' },
      ...{ text_config: 'grouped_mm', vision_config: 'grouped_mm' },
    });
  });

  it.each(heard)('hears as transformers does: $name', async (prompt) => {
    const inputs = await heardInputs(prompt, processor);
    expectLogits((await model.forward(inputs)).logits, prompt);
    const { tokens } = prompt.greedy;
    const { sequences } = await model.generate({ ...inputs, ...greedy(tokens.length) });
    expect(sequences[0]?.slice(prompt.input_ids.length)).toEqual(tokens);
  });

  it('decodes a batch of which one row hears as transformers does', async () => {
    const batch = golden.batches.find(({ rows }) => rows.includes('p1')) as Batch;
    const heardAlone = await heardInputs(heard[0] as Prompt, processor);
    const { input_ids: inputIds, attention_mask: attentionMask } = batch;
    const { sequences } = await model.generate({ ...heardAlone, inputIds, attentionMask, ...greedy(12) });
    expect(sequences.map((row) => row.slice(-12))).toEqual(batch.tokens);
  });

  it('gives what it hears the same tokens as transformers', async () => {
    const parts = await loadModel(FOLDER, { dtype: 'float32', threads: 2 }, 'logits', 'image-text');
    for (const name of ['short', 'long']) {
      const { data, frames } = spectrogram(name);
      const values = { data, dims: [1, data.length / frames, frames] as const };
      const found = await parts.hearing?.features(values, [frames]);
      expect(maxDifference(found ?? [], tensors.get(`sound.${name}.embeds`)?.data ?? [])).toBeLessThan(
        LOGITS,
      );
    }
    // Beside a longer one, which fills it up, a sound is what it is alone.
    const [short, long] = [spectrogram('short'), spectrogram('long')];
    const bands = short.data.length / short.frames;
    const both = new Float32Array(2 * bands * long.frames);
    for (let band = 0; band < bands; band++)
      both.set(short.data.subarray(band * short.frames, (band + 1) * short.frames), band * long.frames);
    both.set(long.data, bands * long.frames);
    const together = await parts.hearing?.features({ data: both, dims: [2, bands, long.frames] }, [
      short.frames,
      long.frames,
    ]);
    const alone = ['short', 'long'].flatMap((name) => [...(tensors.get(`sound.${name}.embeds`)?.data ?? [])]);
    expect(maxDifference(together ?? [], alone)).toBeLessThan(LOGITS);
    await parts.release();
  });

  it('lays out a conversation with sound, from files, bytes and samples', async () => {
    const samples = Float32Array.from({ length: 16_000 }, (_, i) => 0.3 * Math.sin(i / 9));
    const raw = { samples, samplingRate: 16_000 };
    const messages = (part: ContentPart): ChatMessage[] => [
      { role: 'user', content: [{ type: 'text', text: 'Who speaks?' }, part] },
    ];
    const inputs = await processor.applyChatTemplate(messages({ type: 'audio', audio: raw }), {
      addGenerationPrompt: true,
    });
    expect(inputs.inputFeatures?.dims).toEqual([1, 16, 100]);
    const [types] = inputs.mmTokenTypeIds as [number[]];
    expect(types.filter((type) => type === 3)).toHaveLength(13);
    const bytes = wav([samples], 16_000, 32);
    const data = Buffer.from(bytes).toString('base64');
    const parts = [
      { type: 'audio', audio: bytes },
      { type: 'audio_url', audio_url: { url: `data:audio/wav;base64,${data}` } },
      { type: 'input_audio', input_audio: { data, format: 'wav' } },
    ];
    for (const part of parts) {
      const same = await processor.applyChatTemplate(messages(part), { addGenerationPrompt: true });
      expect(same).toEqual(inputs);
    }
    const beside = await processor.applyChatTemplate(messages({ type: 'audio' }), {
      ...{ addGenerationPrompt: true, audio: raw },
    });
    expect(beside).toEqual(inputs);
    const { text } = await model.generate({
      messages: messages({ type: 'audio', audio: raw }),
      ...greedy(4),
    });
    expect(text).toHaveLength(1);
  });

  /** What transformers 5.18 computes from the same patches: the first logits of tokens in the middle and at the end, and the next tokens. */
  const CLIPS = [
    {
      ...{ count: 4, fps: 2, bounds: {}, grid: [2, 20, 28], seconds: 1 },
      logits: [
        [20, [-0.419571, 0.869119, -2.892393, -3.331641, 2.011418, 1.896512, -1.252379, 4.741921]],
        [313, [-2.773401, 0.783276, 0.439025, -0.528019, -1.428201, 1.543975, -0.052529, 3.193224]],
      ],
      tokens: [346, 19, 206, 501, 400, 206],
    },
    {
      ...{ count: 3, fps: 1, bounds: { minPixels: 4096, maxPixels: 16384 }, grid: [2, 4, 6], seconds: 2 },
      logits: [
        [20, [4.685266, 4.821709, -0.259266, -4.405775, 2.50913, -3.664434, 1.023674, 3.954212]],
        [45, [-3.575988, 0.107398, 1.358391, 1.325507, -2.37502, 1.192339, -1.430382, 1.892254]],
      ],
      tokens: [346, 154, 130, 65, 491, 269],
    },
  ] as const;
  const clip = (count: number) => Array(count).fill(join(FOLDER, 'images/gradient.png'));
  const asked = (video: object): ChatMessage[] => [
    {
      role: 'user',
      content: [
        { type: 'text', text: 'Look:' },
        { type: 'video', video },
        { type: 'text', text: 'What happens?' },
      ],
    },
  ];

  it.each(CLIPS)('sees $count frames at $fps a second as transformers does', async (expected) => {
    const { count, fps, bounds, grid, seconds, logits, tokens } = expected;
    const inputs = await processor.applyChatTemplate(asked({ frames: clip(count), fps }), {
      ...{ addGenerationPrompt: true, ...bounds },
    });
    expect([inputs.videoGridThw, inputs.videoSecondPerGrid]).toEqual([[grid], [seconds]]);
    // The second half of the clip shows something else.
    const { data } = inputs.pixelValuesVideos as PixelValues;
    for (let i = data.length / 2; i < data.length; i++) data[i] = -0.5 * (data[i] as number);
    const found = await model.forward(inputs);
    const vocab = found.logits.dims[2] as number;
    for (const [token, first8] of logits) {
      const row = (found.logits.data as Float32Array).subarray(token * vocab, token * vocab + 8);
      expect(maxDifference(row, first8)).toBeLessThan(LOGITS);
    }
    const { sequences } = await model.generate({ ...inputs, ...greedy(tokens.length) });
    expect(sequences[0]?.slice(-tokens.length)).toEqual(tokens);
  });

  it('says which videos it cannot place in time', async () => {
    const small = { minPixels: 1024, maxPixels: 4096 };
    const ask = (video: object) => processor.applyChatTemplate(asked(video), small);
    await expect(ask({ frames: clip(2), timestamps: [0, 1] })).rejects.toThrow(
      /video 1 has timestamps; .* sample frames evenly, and give fps/,
    );
    const thirds = await ask({ frames: clip(4), fps: 3 });
    await expect(model.forward(thirds)).rejects.toThrow(
      /video 1 has a pair of frames every 0\.666\d* seconds, 8\.666\d* of the model's positions.*that 26 is a multiple of/,
    );
    // One pair of frames is at its beginning, however many there are a second.
    await model.forward(await ask({ frames: clip(2), fps: 3 }));
    const { videoSecondPerGrid: _, ...untimed } = thirds;
    await expect(model.forward(untimed)).rejects.toThrow(/videoSecondPerGrid does not say how many seconds/);
    await expect(model.forward({ ...thirds, videoSecondPerGrid: [1, 2] })).rejects.toThrow(
      /videoSecondPerGrid is \[1,2\]; expected a number above 0 for each video \(1\)/,
    );
    for (const steps of [[1n], [Number.NaN], ['1'], 1, [0]])
      await expect(model.forward({ ...thirds, videoSecondPerGrid: steps as never })).rejects.toThrow(
        /videoSecondPerGrid is .*; expected a number above 0 for each video \(1\)/,
      );
    const mmTokenTypeIds = thirds.mmTokenTypeIds.map((row) => row.map((type) => type || 7));
    await expect(model.forward({ ...thirds, mmTokenTypeIds, videoSecondPerGrid: [1] })).rejects.toThrow(
      /mmTokenTypeIds: row 0, position 0 is 7; expected 0 \(text\), 1 \(image\)/,
    );
  });

  it('says what is wrong with a sound, and which it is', async () => {
    const ask = (audio: unknown, text = processor.audioMark) =>
      processor({ text, audio: audio as SoundInput });
    await expect(ask(undefined)).rejects.toThrow(/1 audio placeholder .*0 audios were given/);
    await expect(ask(Buffer.from('ID3, and an mp3'))).rejects.toThrow(
      /sound \(15 bytes in memory\) is no WAV file/,
    );
    await expect(ask('nowhere.wav')).rejects.toThrow(/sound \(nowhere\.wav\): there is no such file/);
    await expect(ask({ samples: [0], samplingRate: 16_000 })).rejects.toThrow(/samples is .*Float32Array/);
    await expect(ask({ samples: new Float32Array(99), samplingRate: 16_000 })).rejects.toThrow(/99 samples/);
    await expect(ask({ samples: new Float32Array(99), samplingRate: 0 })).rejects.toThrow(
      /samplingRate is 0/,
    );
    const heardPrompt = heard[0] as Prompt;
    await expect(model.forward({ inputIds: [heardPrompt.input_ids] })).rejects.toThrow(
      /43 audio placeholders, but inputFeatures stand for 0/,
    );
    const inputs = await heardInputs(heardPrompt, processor);
    const frames = inputs.featureAttentionMask?.[0]?.length as number;
    for (const [mask, message] of [
      [[[1]], `row 0 has 1 entries, of which 1 are 1 before the first 0; expected ${frames}`],
      [[[0, ...Array<number>(frames - 1).fill(1)]], 'of which 0 are 1 before the first 0'],
      [[[1, 0, ...Array<number>(frames - 2).fill(1)]], 'of which 1 are 1 before the first 0'],
      [[[2]], 'featureAttentionMask: row 0, position 0 is 2; expected 0 or 1'],
      [7, 'featureAttentionMask is 7; expected a list of rows'],
      [[[1], [1]], 'and featureAttentionMask 2 rows; expected a Float32Array of [sounds, 16, frames]'],
    ] as const) {
      const call = model.forward({ ...inputs, featureAttentionMask: mask as never });
      await expect(call).rejects.toThrow(InputError);
      await expect(call).rejects.toThrow(message);
    }
    const { data, dims } = inputs.inputFeatures as { data: Float32Array; dims: readonly number[] };
    for (const inputFeatures of [
      { data: data.subarray(1), dims },
      { data, dims: [1, 16, 1n] },
      { data: [1], dims },
      7,
    ])
      await expect(model.forward({ ...inputs, inputFeatures: inputFeatures as never })).rejects.toThrow(
        /inputFeatures has .* values for .*; expected a Float32Array of \[sounds, 16, frames\]/,
      );
    const bare: ImageTextForwardInputs = { ...inputs };
    delete bare.featureAttentionMask;
    await expect(model.forward(bare)).rejects.toThrow(/come together/);
  });

  it('names the part of the config that is at fault', () => {
    const parse = (json: object) =>
      findArchitecture({ model_type: 'qwen3_omni_moe' }, 'config.json').parse(json, 'config.json');
    expect(() => parse({})).toThrow(ConfigError);
    expect(() => parse({})).toThrow(/config\.json: thinker_config is undefined; expected an object/);
    expect(() => parse({ thinker_config: { text_config: { hidden_size: 0 } } })).toThrow(
      /config\.json: thinker_config: text_config\.hidden_size is 0/,
    );
  });

  it('finds the tensors of a thinker that was saved by itself', () => {
    const config = { model_type: 'qwen3_omni_moe_thinker', text_config: { hidden_size: 3584 } };
    const { canonicalName } = findArchitecture(config, 'c').parse(config, 'c');
    expect(canonicalName('model.layers.0.mlp.gate.weight')).toBe(
      'model.language_model.layers.0.mlp.gate.weight',
    );
    expect(canonicalName('visual.merger_list.1.mlp.0.weight')).toBe(
      'model.visual.deepstack_merger_list.1.linear_fc1.weight',
    );
    expect(canonicalName('lm_head.weight')).toBe('lm_head.weight');
  });
});
