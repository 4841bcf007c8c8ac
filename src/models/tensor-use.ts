import type { TensorUse } from './architecture.ts';

interface UseConfig {
  readonly num_experts: number;
  readonly num_experts_per_tok: number;
}

interface Prefixes {
  readonly prefix: string;
  readonly tower?: string;
  readonly unread?: readonly string[];
}

const LAYER = /^layers\.(\d+)\.(.+)$/;
const EXPERT = /^mlp\.experts\.(?:(\d+)\.)?/;
const PROJECTION =
  /^(?:input_layernorm|self_attn\.[qkv]_(?:proj|norm)|linear_attn\.(?:in_proj_\w+|conv1d|A_log|dt_bias))(?:\.|$)/;
const COMPUTED = /\.rotary_emb\.inv_freq$/;
/** Layers that draft several tokens at a time. */
const DRAFT = /^mtp\./;

/**
 * Where Qwen's MoE decoders use a tensor.
 * @param prefixes of the decoder's tensors, such as `model`; of the vision tower's, where there is one; of what is never read
 */
export function tensorUse(
  name: string,
  config: UseConfig,
  { prefix, tower, unread = [] }: Prefixes,
): TensorUse {
  const use = (part: TensorUse['part'], more: Partial<TensorUse> = {}): TensorUse => ({
    part,
    share: 1,
    isSurplusExpert: false,
    ...more,
  });
  const isSpare = unread.some((part) => name.startsWith(`${part}.`));
  if (isSpare || COMPUTED.test(name) || DRAFT.test(name)) return use('unread', { share: 0 });
  if (tower !== undefined && name.startsWith(`${tower}.`)) return use('tower');
  if (name === 'lm_head.weight') return use('head');
  if (!name.startsWith(`${prefix}.`)) return use('unknown');
  const local = name.slice(prefix.length + 1);
  if (local === 'embed_tokens.weight') return use('embedding');
  if (local === 'norm.weight') return use('norm');
  const [, index, rest = ''] = LAYER.exec(local) ?? [];
  if (index === undefined) return use('unknown');
  const layer = Number(index);
  const expert = EXPERT.exec(rest);
  if (!expert) return use(PROJECTION.test(rest) ? 'projections' : 'rest', { layer });
  const { num_experts: experts, num_experts_per_tok: perToken } = config;
  const isSurplusExpert = expert[1] !== undefined && Number(expert[1]) >= experts;
  return use('rest', { layer, share: experts > 0 ? perToken / experts : 0, isSurplusExpert });
}
