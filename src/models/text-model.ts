import type { WeightSource } from '../graph/weight-source.ts';
import { attentionCache } from '../nn/attention.ts';
import { positionAxesOf, promptPositions } from '../nn/rope.ts';
import type { Target } from '../nn/scope.ts';
import { expertsContext, storedExperts } from '../nn/stored-experts.ts';
import type { Model } from './architecture.ts';
import { tensorUse } from './tensor-use.ts';
import type { TextConfig } from './text-config.ts';

/** Tensors of a decoder saved by itself, as HF `Qwen3MoeModel` is: its prefix is missing. */
const BARE = /^(?:layers|embed_tokens|norm)\./;

/** MLX's name for the experts of a layer, whose matrices it stacks. */
const STACKED = /^(.*\.mlp\.)switch_mlp(\.(?:gate|up|down)_proj\.\w+)$/;

export interface TextModelOptions {
  readonly modelType: string;
  /** Prefix of the decoder's tensors, such as `model`. */
  readonly prefix: string;
  /** Prefixes of the tensors of what sees and hears. */
  readonly towers?: readonly string[];
  /** Prefixes of tensors that may be stored beside it and are never read, such as a tower that this model does without. */
  readonly unread?: readonly string[];
}

/** What follows alike from the config of every Qwen MoE decoder; the rest of a `Model` is the family's own. */
export function describeText(
  config: TextConfig,
  { modelType, prefix, ...others }: TextModelOptions,
): Omit<Model, 'build'> {
  const { hidden_size: hidden, num_hidden_layers: layers, num_experts: experts } = config;
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: headDim } = config;
  const sparse = [...config.isSparse.keys()].filter((layer) => config.isSparse[layer]);
  const expertsPrefix = (layer: number) => `${prefix}.layers.${layer}.mlp.experts`;
  return {
    modelType,
    subConfigs: [],
    declared: config.declaredDtype,
    vocabSize: config.vocab_size,
    contextLength: config.contextLength,
    hiddenSize: hidden,
    positionAxes: positionAxesOf(config.rope),
    ...(config.rope.byLength ? { promptPositions } : {}),
    caches: config.isSparse.map((_, layer) => attentionCache(config, config.windows[layer])),
    routed:
      sparse.length > 0
        ? { layers: sparse, count: experts, perToken: config.num_experts_per_tok }
        : undefined,
    geometry: {
      hidden,
      layers,
      heads: `${heads}/${kvHeads} x ${headDim}`,
      experts:
        experts === 0
          ? 'none'
          : `${config.num_experts_per_tok} of ${experts} x ${config.moe_intermediate_size}`,
      moeLayers: sparse.length,
      intermediate: config.intermediate_size,
      vocab: config.vocab_size,
    },
    work: {
      // Scores and weighted sums: headDim multiply-adds each, for every head.
      attention: config.isSparse.map(() => 2 * heads * headDim),
      use: (tensor) => tensorUse(tensor, config, { prefix, ...others }),
    },
    canonicalName: (stored) => (BARE.test(stored) ? `${prefix}.${stored}` : stored),
    stackedExperts,
    headWeight: (stored) => ({
      source: `${tableNames(stored, prefix, config.tie_word_embeddings).head}.weight`,
      own: 'lm_head.weight',
    }),
    expertsContexts: (stored: WeightSource, target: Target) =>
      sparse.map((layer) => expertsContext(stored, expertsPrefix(layer), config, target)),
    expertsWeights: (stored: WeightSource) =>
      sparse.map((layer) => storedExperts(stored, expertsPrefix(layer), config)),
  };
}

function stackedExperts(name: string): ((expert: number) => string) | undefined {
  const [, layer, part] = STACKED.exec(name) ?? [];
  return layer === undefined ? undefined : (expert) => `${layer}experts.${expert}${part}`;
}

/**
 * Tensors of the token embedding and of the output head, without `.weight`. Tied ones share whichever is stored; a checkpoint that
 * holds both is taken at its word.
 */
export function tableNames(
  stored: WeightSource,
  prefix: string,
  isTied: boolean,
): { readonly embedding: string; readonly head: string } {
  const embedding = `${prefix}.embed_tokens`;
  const head = 'lm_head';
  const isStored = (name: string) => stored.info(`${name}.weight`) !== undefined;
  if (!isTied) return { embedding, head };
  if (!isStored(head)) return { embedding, head: embedding };
  return { embedding: isStored(embedding) ? embedding : head, head };
}
