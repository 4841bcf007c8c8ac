import { describe, expect, it } from 'vitest';
import { checkModel } from '../../src/auto/check-model.ts';
import { expectedWeights } from '../../src/auto/expected-weights.ts';
import { findArchitecture } from '../../src/auto/registry.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText } from '../../src/index.ts';
import { changedModel } from '../helpers/checkpoints.ts';
import { goldenModel, maxDifference } from '../helpers/goldens.ts';

const TEXT = goldenModel('qwen3_moe_c');
const VL = goldenModel('qwen3_vl_moe_e_resaved');
const inputs = { inputIds: [[5, 6, 7, 8]] };
const quiet = { dtype: 'float32', onWarning: () => {} } as const;

async function hiddenStates(folder: string): Promise<Float32Array> {
  const model = await AutoModel.fromPretrained(folder, quiet);
  try {
    return (await model.forward(inputs)).lastHiddenState.data as Float32Array;
  } finally {
    await model.dispose();
  }
}

async function logits(
  folder: string,
  auto: typeof AutoModelForCausalLM | typeof AutoModelForImageTextToText,
  config = {},
) {
  const model = await auto.fromPretrained(folder, { ...quiet, config });
  try {
    return (await model.forward(inputs)).logits.data as Float32Array;
  } finally {
    await model.dispose();
  }
}

describe('a checkpoint of the bare model', () => {
  const bare = (name: string) => (name === 'lm_head.weight' ? undefined : name.replace(/^model\./, ''));

  it('gives AutoModel the hidden states of the whole one', async () => {
    const { folder, remove } = changedModel(TEXT, {
      rename: bare,
      config: { architectures: ['Qwen3MoeModel'] },
    });
    try {
      expect(maxDifference(await hiddenStates(folder), await hiddenStates(TEXT))).toBe(0);
      const report = await checkModel(await resolveRepo(folder));
      expect([report.missing, report.unexpected]).toEqual([[], []]);
    } finally {
      remove();
    }
  });

  it('lacks nothing but its head for AutoModelForCausalLM, which a tied one does not need', async () => {
    const { folder, remove } = changedModel(TEXT, { rename: bare });
    try {
      await expect(AutoModelForCausalLM.fromPretrained(folder)).rejects.toThrow(
        /has no output head \(lm_head\.weight\).*AutoModel;/,
      );
      await logits(folder, AutoModelForCausalLM, { tie_word_embeddings: true });
    } finally {
      remove();
    }
  });

  it.each(['_orig_mod.', 'module.', 'module._orig_mod.'])(
    'may be saved within a wrapper: %s',
    async (wrapper) => {
      const { folder, remove } = changedModel(TEXT, { rename: (name) => `${wrapper}${name}` });
      try {
        const own = await logits(TEXT, AutoModelForCausalLM);
        expect(maxDifference(await logits(folder, AutoModelForCausalLM), own)).toBe(0);
      } finally {
        remove();
      }
    },
  );

  it('may have kept its head', async () => {
    const { folder, remove } = changedModel(TEXT, { rename: (name) => name.replace(/^model\./, '') });
    try {
      expect(
        maxDifference(await logits(folder, AutoModelForCausalLM), await logits(TEXT, AutoModelForCausalLM)),
      ).toBe(0);
    } finally {
      remove();
    }
  });
});

it('a whole checkpoint serves AutoModel, and its head is no surprise there', async () => {
  const warnings: string[] = [];
  const model = await AutoModel.fromPretrained(TEXT, { onWarning: (message) => warnings.push(message) });
  await model.dispose();
  expect(warnings).toEqual([]);
});

describe('an image-text checkpoint may name its parts', () => {
  it.each<[string, (name: string) => string]>([
    ['as the bare model does', (name) => name.replace(/^model\./, '')],
    [
      'as earlier versions do',
      (name) => name.replace('model.language_model.', 'model.').replace('model.visual.', 'visual.'),
    ],
    [
      'as wrappers of a whole language model do',
      (name) =>
        name
          .replace('model.language_model.', 'language_model.model.')
          .replace('lm_head.', 'language_model.lm_head.')
          .replace('model.visual.', 'visual.'),
    ],
  ])('%s', async (_, rename) => {
    const { folder, remove } = changedModel(VL, { rename });
    try {
      const own = await logits(VL, AutoModelForImageTextToText);
      expect(maxDifference(await logits(folder, AutoModelForImageTextToText), own)).toBe(0);
    } finally {
      remove();
    }
  });
});

describe('numbers of config.json that the weights cannot bear out', () => {
  it.each<[string, object, RegExp]>([
    ['num_experts', { num_experts: 1e6 }, /num_experts is 1000000; expected a number/],
    ['num_experts', { num_experts: 8000 }, /experts|tensors/],
    ['num_hidden_layers', { num_hidden_layers: 1e9 }, /num_hidden_layers is 1000000000; expected a number/],
    [
      'num_hidden_layers',
      { num_hidden_layers: 2000 },
      /more than 10000 tensors that are not among the .* here/,
    ],
    ['vocab_size', { vocab_size: 2 ** 31 - 1 }, /embed_tokens\.weight.*expected \[2147483647,64\]/],
    ['hidden_size', { hidden_size: 2 ** 30 }, /hidden_size is 1073741824; expected a number <=262144/],
    ['hidden_size', { hidden_size: 2 ** 18 }, /expected \[.*262144/],
    ['moe_intermediate_size', { moe_intermediate_size: 2 ** 18 }, /expected \[262144,64\]/],
    ['heads', { num_attention_heads: 2 ** 30, head_dim: 16 }, /num_attention_heads is 1073741824; .*262144/],
    [
      'mlp_only_layers',
      { mlp_only_layers: Array(3000).fill('x') },
      /mlp_only_layers is .* at most 2048 entr/,
    ],
    ['layer_types', { layer_types: Array(3000).fill(7) }, /layer_types is .* at most 2048 entries/],
    ['max_position_embeddings', { max_position_embeddings: -1 }, /max_position_embeddings is -1/],
  ])('%s: %j is refused', async (_, config, message) => {
    await expect(AutoModelForCausalLM.fromPretrained(TEXT, { config: config as never })).rejects.toThrow(
      message,
    );
  });

  it('of a vision tower too', async () => {
    const { folder, remove } = changedModel(VL, {});
    try {
      const { vision_config } = (await import(`${folder}/config.json`, { with: { type: 'json' } })).default;
      for (const [field, value, message] of [
        ['depth', 2000, /more than 10000 tensors/],
        ['depth', 1e9, /vision_config\.depth is 1000000000/],
        ['num_position_embeddings', 30000 ** 2, /pos_embed\.weight.*expected \[900000000/],
        ['patch_size', 2 ** 20, /patch_embed.*expected \[/],
        ['hidden_size', 2 ** 30, /vision_config\.hidden_size is 1073741824/],
        ['deepstack_visual_indexes', Array(3000).fill(0), /deepstack_visual_indexes .* at most 2048 entries/],
        [
          'deepstack_visual_indexes',
          [0, 0],
          /deepstack_visual_indexes is \[0,0\]; expected different layers/,
        ],
      ] as const) {
        const config = { vision_config: { ...vision_config, [field]: value } };
        await expect(AutoModelForImageTextToText.fromPretrained(folder, { config })).rejects.toThrow(message);
      }
    } finally {
      remove();
    }
  });
});

describe('the tensors that a config.json without weights stands for', () => {
  const tensorsOf = (config: object) => {
    const json = { model_type: 'qwen3_moe', num_experts_per_tok: 2, ...config };
    return expectedWeights(findArchitecture(json, 'config.json').parse(json, 'config.json'));
  };

  it('are counted for sizes that models have', () => {
    expect(tensorsOf({ num_hidden_layers: 2, num_experts: 4 })).toHaveLength(2 * (9 + 3 * 4) + 3);
  });

  it.each([
    { num_hidden_layers: 2048, num_experts: 128 },
    { num_hidden_layers: 2048, num_experts: 8192 },
  ])('are not listed for %j', (config) => {
    expect(() => tensorsOf(config)).toThrow(/config\.json asks for more than 200000 tensors/);
  });
});
