/** How much a model must read and multiply, from config.json and the shapes of its weights. */
import type { DecoderConfig } from '../nn/types.ts';
import type { TensorInfo } from '../safetensors/types.ts';

/** Bytes and matrix elements of a part of the model, counting of the routed experts only those that serve one token. */
interface Part {
  bytes: number;
  elements: number;
}

export interface WeightWork {
  /** The output head, or the embedding table that is tied to it. */
  readonly head: Part;
  /** By decoder layer: projections up to the queries, keys and values, which every position of a prompt goes through. */
  readonly projections: readonly Part[];
  /** By decoder layer: everything after attention; of the last layer only the wanted positions need it. */
  readonly rest: readonly Part[];
}

const LAYER = /(?:^|\.)layers\.(\d+)\.(.+)$/;
const ROUTED = /^mlp\.experts\./;
const PROJECTION = /^(?:input_layernorm|self_attn\.[qkv]_(?:proj|norm))\./;

/**
 * Sorts the weights of a decoder by when they are used. Vision towers and rows of the embedding table do not count.
 *
 * @param tensors all tensors of the checkpoint
 */
export function weightWork(tensors: Iterable<TensorInfo>, config: DecoderConfig): WeightWork {
  const empty = (): Part => ({ bytes: 0, elements: 0 });
  const layers = () => Array.from({ length: config.num_hidden_layers }, empty);
  const work = { head: empty(), projections: layers(), rest: layers() };
  let tied: TensorInfo | undefined;
  let hasHead = false;
  for (const tensor of tensors) {
    if (tensor.name.includes('visual.')) continue;
    if (tensor.name.endsWith('embed_tokens.weight')) tied = tensor;
    if (tensor.name.endsWith('lm_head.weight')) {
      hasHead = true;
      add(work.head, tensor, 1);
    }
    const [, layer, name] = LAYER.exec(tensor.name) ?? [];
    if (layer === undefined || name === undefined) continue;
    const part = (PROJECTION.test(name) ? work.projections : work.rest)[Number(layer)];
    if (part) add(part, tensor, ROUTED.test(name) ? config.num_experts_per_tok / config.num_experts : 1);
  }
  if (!hasHead && tied) add(work.head, tied, 1);
  return work;
}

function add(part: Part, { shape, byteLength }: TensorInfo, share: number): void {
  part.bytes += byteLength * share;
  // Vectors are added or scaled, not multiplied.
  if (shape.length > 1) part.elements += shape.reduce((a, b) => a * b, 1) * share;
}

/** Bytes of weights that one decoded token reads. The KV cache comes on top: it grows with the sequence. */
export function bytesPerDecodedToken({ head, projections, rest }: WeightWork): number {
  return Math.round([head, ...projections, ...rest].reduce((sum, part) => sum + part.bytes, 0));
}

/**
 * Floating-point operations of a prefill, two a multiply-add: matrix products and causal attention scores. The last layer
 * after attention, and the head, are computed for the last position only.
 */
export function prefillFlops(tokens: number, work: WeightWork, config: DecoderConfig): number {
  const all = (parts: readonly Part[]) => parts.reduce((sum, part) => sum + part.elements, 0);
  const everywhere = all(work.projections) + all(work.rest.slice(0, -1));
  const once = work.head.elements + all(work.rest.slice(-1));
  return Math.round(2 * (tokens * everywhere + once) + attentionFlops(tokens, config));
}

/** Scores and weighted sums: n(n+1)/2 pairs a layer and head, 2 · head_dim multiply-adds each. */
function attentionFlops(tokens: number, config: DecoderConfig): number {
  const { num_hidden_layers: layers, num_attention_heads: heads, head_dim: headDim } = config;
  return 2 * tokens * (tokens + 1) * layers * heads * headDim;
}
