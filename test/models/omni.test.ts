/** The thinker of Qwen3-Omni: text and pictures. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findArchitecture } from '../../src/auto/registry.ts';
import {
  AutoModelForImageTextToText,
  AutoProcessor,
  ConfigError,
  type ImageTextToText,
  InputError,
  type Processor,
} from '../../src/index.ts';
import {
  argmax,
  type GoldenModel,
  type GoldenPrompt,
  goldenModel,
  maxDifference,
  readJson,
} from '../helpers/goldens.ts';

interface Prompt extends GoldenPrompt {
  images: string[];
  sounds?: string[];
  text: string;
}

const FOLDER = goldenModel('qwen3_omni_moe_l');
const LOGITS = 1e-4;
const golden = readJson<{ prompts: Prompt[]; text: GoldenModel }>(FOLDER, 'expected.json');
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

  it('leaves what hears and what speaks unread without a warning', () => {
    expect(warnings).toEqual([]);
    expect(model.getExpertsImplementation()).toEqual({
      ...{ '': 'grouped_mm', audio_config: 'grouped_mm' },
      ...{ text_config: 'grouped_mm', vision_config: 'grouped_mm' },
    });
  });

  it('refuses sound instead of taking its placeholders for words', async () => {
    const [heard] = golden.prompts.filter(({ sounds = [] }) => sounds.length > 0);
    await expect(processor({ text: heard?.text as string })).rejects.toThrow(InputError);
    await expect(processor({ text: heard?.text as string })).rejects.toThrow(
      /audio placeholder.*sound is not read/,
    );
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
