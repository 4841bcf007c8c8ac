import type { Value } from '../../graph/graph.ts';
import type { RecurrentSpec } from '../../nn/cache-spec.ts';
import { embedding } from '../../nn/embedding.ts';
import { lmHead } from '../../nn/lm-head.ts';
import { ngramMemoryStates } from '../../nn/ngram-memory.ts';
import { rotaryTables } from '../../nn/rope.ts';
import { Scope, type Variant } from '../../nn/scope.ts';
import type { Architecture, Model } from '../architecture.ts';
import { describeHybrid } from '../hybrid-model.ts';
import { DecoderPass } from '../pass.ts';
import { canonicalName } from '../qwen3_5_moe/model.ts';
import { mediaPart } from '../qwen3_vl_moe/media-part.ts';
import { VisualFeatures } from '../qwen3_vl_moe/visual-features.ts';
import { type TextModelOptions, tableNames } from '../text-model.ts';
import { type Config, parseQwen4, parseTextConfig, type TextConfig } from './config.ts';
import { decoder } from './text.ts';

const PREFIX = 'model.language_model';
/** Of the tensors of a decoder by itself. */
const TEXT_PREFIX = 'model';
const TOWER = 'model.visual';
/** Time, height and width. */
const AXES = 3;

/** Qwen3.8-Flash-Next: HF `Qwen4ExpForConditionalGeneration`. */
export const qwen4_exp: Architecture = {
  modelType: 'qwen4_exp',
  parse: (json, file) => seeingModel(parseQwen4(json, file)),
};

/** The decoder by itself: HF `Qwen4ExpForCausalLM`. */
export const qwen4_exp_text: Architecture = {
  modelType: 'qwen4_exp_text',
  parse: (json, file) => languageModel(parseTextConfig(json, file), 'qwen4_exp_text', TEXT_PREFIX),
};

function seeingModel(config: Config): Model {
  const modelType = 'qwen4_exp';
  const subConfigs = ['text_config', 'vision_config'];
  const model = {
    ...describe(config.text, { modelType, prefix: PREFIX, towers: [TOWER] }),
    subConfigs,
    positionAxes: AXES,
    media: mediaPart(config, TOWER),
    languageModel: { ...languageModel(config.text, modelType, PREFIX), subConfigs },
  };
  return { ...model, build: (graph, variant) => conditionalLm(new Scope(graph, variant), config, model) };
}

function languageModel(config: TextConfig, modelType: string, prefix: string): Model {
  const model = describe(config, { modelType, prefix, unread: [TOWER] });
  return { ...model, build: (graph, variant) => causalLm(new Scope(graph, variant), config, model, prefix) };
}

/** What follows from the config of either class. */
function describe(config: TextConfig, options: TextModelOptions): Omit<Model, 'build'> {
  const model = describeHybrid(config, options);
  const { memoryLayers, indexer_n_heads: heads, indexer_head_dim: indexDim } = config;
  const { indexer_budget: budget, indexer_compress_ratio: ratio } = config;
  return {
    ...model,
    canonicalName: (stored) => canonicalName(stored, options.prefix),
    sharedScale,
    caches: model.caches.map((cache, layer) => {
      if (cache.kind === 'keys_values') return { ...cache, indexDim };
      return memoryLayers.includes(layer) ? withMemory(cache, config) : cache;
    }),
    geometry: {
      ...model.geometry,
      streams: `${config.hc_count} by ${config.hc_lowrank}`,
      index: `${heads} x ${indexDim}, ${budget} in ${ratio}`,
      memory: memoryLayers.length,
    },
    residualSize: config.hc_count * config.hidden_size,
    precedingIds: memoryLayers.length > 0 ? config.ngram_size - 1 : 0,
    positionBlock: ratio,
  };
}

/** In FP8 a table of n-grams has one scale, whatever the parts in which it is stored (HF `FP8Embedding`). */
function sharedScale(name: string): RegExp | undefined {
  const [, layer] = /\.layers\.(\d+)\.ple\.ple_embedding\.ngram_embedding\.weight_scale$/.exec(name) ?? [];
  if (layer === undefined) return undefined;
  return new RegExp(
    `\\.layers\\.${layer}\\.ple\\.ple_embedding\\.ngram_embedding\\.(?:shard_\\d+\\.)?weight$`,
  );
}

function withMemory(cache: RecurrentSpec, config: TextConfig): RecurrentSpec {
  return { ...cache, states: { ...cache.states, ...ngramMemoryStates(config) } };
}

/** HF `Qwen4ExpForCausalLM`, or the bare decoder where the variant wants no head. */
function causalLm(g: Scope<Variant>, config: TextConfig, model: Omit<Model, 'build'>, prefix: string): void {
  const { hidden_size: hidden, vocab_size: vocab } = config;
  const tables = tableNames(g.graph.weights, prefix, config.tie_word_embeddings);
  const rotary = (positions: Value) => rotaryTables(g.at('rotary'), config.rope, positions);
  const pass = new DecoderPass(g, config, { ...model, rotary });
  const x = decoder(g.at(prefix), embedding(g.at(tables.embedding), pass.ids, vocab, hidden), pass, config);
  pass.finish(x, (rows, count) => lmHead(g.at(tables.head), rows, hidden, vocab, count));
}

/** HF `Qwen4ExpForConditionalGeneration`, or the bare decoder; the tower is a graph of its own. */
function conditionalLm(g: Scope<Variant>, config: Config, model: Omit<Model, 'build'>): void {
  const { text, ropeAxes } = config;
  const { hidden_size: hidden, vocab_size: vocab } = text;
  const rotary = (positions: Value) =>
    rotaryTables(g.at('rotary'), text.rope, positions, { count: AXES, of: ropeAxes });
  const pass = new DecoderPass(g, text, { ...model, rotary });
  const tables = tableNames(g.graph.weights, PREFIX, text.tie_word_embeddings);
  let x = embedding(g.at(tables.embedding), pass.ids, vocab, hidden);
  if (g.variant.visual) x = new VisualFeatures(g.at('visual'), pass, hidden, 0).embed(x);
  pass.finish(decoder(g.at(PREFIX), x, pass, text), (rows, count) =>
    lmHead(g.at(tables.head), rows, hidden, vocab, count),
  );
}
