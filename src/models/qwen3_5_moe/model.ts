import type { Value } from '../../graph/graph.ts';
import { embedding } from '../../nn/embedding.ts';
import { lmHead } from '../../nn/lm-head.ts';
import { rotaryTables } from '../../nn/rope.ts';
import { Scope, type Variant } from '../../nn/scope.ts';
import type { Architecture, Model } from '../architecture.ts';
import { describeHybrid } from '../hybrid-model.ts';
import { DecoderPass } from '../pass.ts';
import { mediaPart } from '../qwen3_vl_moe/media-part.ts';
import { VisualFeatures } from '../qwen3_vl_moe/visual-features.ts';
import { tableNames } from '../text-model.ts';
import { type Config, parseQwen35, parseTextConfig, type TextConfig } from './config.ts';
import { decoder } from './text.ts';

const PREFIX = 'model.language_model';
/** Of the tensors of a decoder by itself. */
const TEXT_PREFIX = 'model';
const TOWER = 'model.visual';
/** Time, height and width. */
const AXES = 3;

/** Qwen3.5 and Qwen3.6 with experts, such as Qwen3.6-35B-A3B: HF `Qwen3_5MoeForConditionalGeneration`. */
export const qwen3_5_moe: Architecture = {
  modelType: 'qwen3_5_moe',
  parse: (json, file) => seeingModel(parseQwen35(json, file, 'moe'), 'qwen3_5_moe'),
};

/** The decoder by itself, such as Qwen3.8-2.4T-A95B: HF `Qwen3_5MoeForCausalLM`. */
export const qwen3_5_moe_text: Architecture = {
  modelType: 'qwen3_5_moe_text',
  parse: (json, file) => languageModel(parseTextConfig(json, file, 'moe'), 'qwen3_5_moe_text', TEXT_PREFIX),
};

/** Dense ones, such as Qwen3.5-27B: HF `Qwen3_5ForConditionalGeneration`. */
export const qwen3_5: Architecture = {
  modelType: 'qwen3_5',
  parse: (json, file) => seeingModel(parseQwen35(json, file, 'dense'), 'qwen3_5'),
};

/** HF `Qwen3_5ForCausalLM`. */
export const qwen3_5_text: Architecture = {
  modelType: 'qwen3_5_text',
  parse: (json, file) => languageModel(parseTextConfig(json, file, 'dense'), 'qwen3_5_text', TEXT_PREFIX),
};

function seeingModel(config: Config, modelType: string): Model {
  const subConfigs = ['text_config', 'vision_config'];
  const model = {
    ...describeHybrid(config.text, { modelType, prefix: PREFIX, towers: [TOWER] }),
    subConfigs,
    positionAxes: AXES,
    canonicalName: (stored: string) => canonicalName(stored, PREFIX),
    media: mediaPart(config, TOWER),
    languageModel: { ...languageModel(config.text, modelType, PREFIX), subConfigs },
  };
  return { ...model, build: (graph, variant) => conditionalLm(new Scope(graph, variant), config, model) };
}

function languageModel(config: TextConfig, modelType: string, prefix: string): Model {
  const described = describeHybrid(config, { modelType, prefix, unread: [TOWER] });
  const model = { ...described, canonicalName: (stored: string) => canonicalName(stored, prefix) };
  return { ...model, build: (graph, variant) => causalLm(new Scope(graph, variant), config, model, prefix) };
}

/** HF `Qwen3_5MoeForCausalLM`, or the bare decoder where the variant wants no head. */
function causalLm(g: Scope<Variant>, config: TextConfig, model: Omit<Model, 'build'>, prefix: string): void {
  const { hidden_size: hidden, vocab_size: vocab } = config;
  const tables = tableNames(g.graph.weights, prefix, config.tie_word_embeddings);
  const rotary = (positions: Value) => rotaryTables(g.at('rotary'), config.rope, positions);
  const pass = new DecoderPass(g, config, { ...model, rotary });
  const x = decoder(g.at(prefix), embedding(g.at(tables.embedding), pass.ids, vocab, hidden), pass, config);
  pass.finish(x, (rows, count) => lmHead(g.at(tables.head), rows, hidden, vocab, count));
}

/** HF `Qwen3_5MoeForConditionalGeneration`, or the bare decoder; the tower is a graph of its own. */
function conditionalLm(g: Scope<Variant>, config: Config, model: Omit<Model, 'build'>): void {
  const { text, ropeAxes } = config;
  const { hidden_size: hidden, vocab_size: vocab } = text;
  const pass = new DecoderPass(g, text, {
    ...model,
    rotary: (positions) => rotaryTables(g.at('rotary'), text.rope, positions, { count: AXES, of: ropeAxes }),
  });
  const tables = tableNames(g.graph.weights, PREFIX, text.tie_word_embeddings);
  let x = embedding(g.at(tables.embedding), pass.ids, vocab, hidden);
  if (g.variant.visual) x = new VisualFeatures(g.at('visual'), pass, hidden, 0).embed(x);
  x = decoder(g.at(PREFIX), x, pass, text);
  pass.finish(x, (rows, count) => lmHead(g.at(tables.head), rows, hidden, vocab, count));
}

/** As `Model` has it. Decoders are stored under the prefix of either class, whatever the config is of, or under none. */
export function canonicalName(stored: string, prefix: string): string {
  return stored
    .replace(/^language_model\.lm_head\./, 'lm_head.')
    .replace(
      /^(?:model\.)?(?:language_model\.)?(?:model\.)?(?=(?:layers|embed_tokens|norm|hyper_connection_mixer)\.)/,
      `${prefix}.`,
    )
    .replace(/^visual\./, `${TOWER}.`);
}
