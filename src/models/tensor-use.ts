import type { MatrixKind, TensorUse } from './architecture.ts';
import { ATTENTION_MODULES, EXPERT_MODULES } from './matrix-targets.ts';

interface UseConfig {
  readonly num_experts: number;
  readonly num_experts_per_tok: number;
}

interface Prefixes {
  readonly prefix: string;
  readonly towers?: readonly string[];
  readonly unread?: readonly string[];
}

const LAYER = /^layers\.(\d+)\.(.+)$/;
const EXPERT = /^mlp\.experts\.(?:(\d+)\.)?/;
const PROJECTION =
  /^(?:input_layernorm|attn_hyper_connection|ple|self_attn\.(?:[qkv]_(?:proj|norm)|indexer)|linear_attn\.(?:in_proj_\w+|conv1d|A_log|dt_bias))(?:\.|$)/;
/** A memory of n-grams, in parts. */
const TABLE = /^ple\.ple_embedding\.ngram_embedding\./;
/** What makes one of the streams of a residual. */
const LAST_MIX = /^hyper_connection_mixer\./;
const ATTENTION = new RegExp(String.raw`^${ATTENTION_MODULES}\.weight$`);
/** Those of all experts of a layer in one are no modules. */
const EXPERTS = new RegExp(String.raw`^(?:${EXPERT_MODULES}\.weight|mlp\.experts\.(?:gate_up|down)_proj)$`);
const COMPUTED = /\.rotary_emb\.inv_freq$/;
/** Layers that draft several tokens at a time. */
const DRAFT = /^mtp\./;

/**
 * Where Qwen's MoE decoders use a tensor.
 * @param prefixes of the decoder's tensors, such as `model`; of towers'; of what is never read
 */
export function tensorUse(
  name: string,
  config: UseConfig,
  { prefix, towers = [], unread = [] }: Prefixes,
): TensorUse {
  const use = (part: TensorUse['part'], more: Partial<TensorUse> = {}): TensorUse => ({
    part,
    share: 1,
    isSurplusExpert: false,
    ...more,
  });
  const isSpare = unread.some((part) => name.startsWith(`${part}.`));
  if (isSpare || COMPUTED.test(name) || DRAFT.test(name)) return use('unread', { share: 0 });
  if (towers.some((tower) => name.startsWith(`${tower}.`))) return use('tower');
  if (name === 'lm_head.weight') return use('head', { matrix: 'head' });
  if (!name.startsWith(`${prefix}.`)) return use('unknown');
  const local = name.slice(prefix.length + 1);
  if (local === 'embed_tokens.weight') return use('embedding');
  if (local === 'norm.weight' || LAST_MIX.test(local)) return use('norm');
  const [, index, rest = ''] = LAYER.exec(local) ?? [];
  if (index === undefined) return use('unknown');
  const kind = kindOf(rest);
  const where = { layer: Number(index), ...(kind && { matrix: kind }) };
  if (TABLE.test(rest)) return use('embedding', { layer: Number(index) });
  const expert = EXPERT.exec(rest);
  if (!expert) return use(PROJECTION.test(rest) ? 'projections' : 'rest', where);
  const { num_experts: experts, num_experts_per_tok: perToken } = config;
  const isSurplusExpert = expert[1] !== undefined && Number(expert[1]) >= experts;
  return use('rest', { ...where, share: experts > 0 ? perToken / experts : 0, isSurplusExpert });
}

/** @param local name within a layer */
function kindOf(local: string): MatrixKind | undefined {
  if (ATTENTION.test(local)) return 'attention';
  return EXPERTS.test(local) ? 'experts' : undefined;
}
