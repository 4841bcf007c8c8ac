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
    await expect(model.forward({ ...inputs, featureAttentionMask: [[1]] })).rejects.toThrow(InputError);
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
