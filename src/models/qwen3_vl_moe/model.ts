import { embedding } from '../../nn/embedding.ts';
import { lmHead } from '../../nn/lm-head.ts';
import { rotaryTables } from '../../nn/rope.ts';
import { Scope, type Variant } from '../../nn/scope.ts';
import type { Architecture, Model } from '../architecture.ts';
import { DecoderPass } from '../pass.ts';
import { describeText, tableNames } from '../text-model.ts';
import { type Config, parseQwen3Vl } from './config.ts';
import { mediaPart } from './media-part.ts';
import { decoder } from './text.ts';
import { VisualFeatures } from './visual-features.ts';

export const PREFIX = 'model.language_model';
export const TOWER = 'model.visual';
/** Time, height and width. */
export const AXES = 3;

/** Qwen3-VL-MoE, such as Qwen3-VL-30B-A3B: HF `Qwen3VLMoeForConditionalGeneration`. */
export const qwen3_vl_moe: Architecture = {
  modelType: 'qwen3_vl_moe',
  parse(json, file) {
    const config = parseQwen3Vl(json, file);
    const model = {
      ...describeText(config.text, { modelType: 'qwen3_vl_moe', prefix: PREFIX, towers: [TOWER] }),
      subConfigs: ['text_config', 'vision_config'],
      positionAxes: AXES,
      canonicalName,
      media: mediaPart(config, TOWER),
    };
    return { ...model, build: (graph, variant) => conditionalLm(new Scope(graph, variant), config, model) };
  },
};

/** HF `Qwen3VLMoeForConditionalGeneration`, or the bare decoder where the variant wants no head; the tower is a graph of its own. */
export function conditionalLm(g: Scope<Variant>, config: Config, model: Omit<Model, 'build'>): void {
  const { text, vision, ropeAxes } = config;
  const { hidden_size: hidden, vocab_size: vocab } = text;
  const { length: deepstackLayers } = vision.deepstack_visual_indexes;
  const pass = new DecoderPass(g, text, {
    ...model,
    rotary: (positions) => rotaryTables(g.at('rotary'), text.rope, positions, { count: AXES, of: ropeAxes }),
    // Features are added by place, so that every position must still be there.
    wholeLayers: g.variant.visual ? deepstackLayers : 0,
  });
  const visual = g.variant.visual
    ? new VisualFeatures(g.at('visual'), pass, hidden, deepstackLayers)
    : undefined;
  const tables = tableNames(g.graph.weights, PREFIX, text.tie_word_embeddings);
  const embeddings = embedding(g.at(tables.embedding), pass.ids, vocab, hidden);
  const x = decoder(g.at(PREFIX), visual?.embed(embeddings) ?? embeddings, pass, text, visual);
  pass.finish(x, (rows, count) => lmHead(g.at(tables.head), rows, hidden, vocab, count));
}

/** Names of models saved without their head (`language_model.layers…`), of decoders by themselves, and of earlier versions. */
function canonicalName(stored: string): string {
  return stored
    .replace(/^language_model\.lm_head\./, 'lm_head.')
    .replace(/^(?:model\.)?(?:language_model\.model\.)?(?=(?:layers|embed_tokens|norm)\.)/, `${PREFIX}.`)
    .replace(/^language_model\.(?=(?:layers|embed_tokens|norm)\.)/, `${PREFIX}.`)
    .replace(/^visual\./, `${TOWER}.`);
}
