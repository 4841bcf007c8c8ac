/** How much a model must read and multiply, from config.json and the shapes of its weights. */
import { dtypeOf } from '../dtype.ts';
import { isRoutedExpert, type TensorUse, type TokenWork } from '../models/architecture.ts';

/** A stored weight, be it plain or quantized. */
interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/** What weights are stored as. */
export interface Storage {
  /** Such as `int4`; the one that takes most bytes first, without those of less than a hundredth of all. */
  readonly kinds: readonly string[];
  /** Of a weight, on average, scales included. */
  readonly bits: number;
}

export function storageOf(weights: Iterable<Weight & { readonly storage: string }>): Storage {
  const kinds = new Map<string, number>();
  let bytes = 0;
  let elements = 0;
  for (const { storage, shape, byteLength } of weights) {
    const kind = dtypeOf(storage) ?? storage;
    kinds.set(kind, (kinds.get(kind) ?? 0) + byteLength);
    bytes += byteLength;
    elements += shape.reduce((a, b) => a * b, 1);
  }
  const sorted = [...kinds].sort((a, b) => b[1] - a[1]);
  return {
    kinds: sorted.filter(([, size]) => size >= bytes / 100).map(([kind]) => kind),
    bits: (8 * bytes) / Math.max(1, elements),
  };
}

/** Bytes and matrix elements of a part of the model, counting of the routed experts only those that serve one token. */
interface Part {
  bytes: number;
  elements: number;
  /** Of `bytes`, those of routed experts. */
  routedBytes: number;
}

export interface WeightWork {
  /** The output head, or the embedding table that is tied to it. */
  readonly head: Part;
  /** By decoder layer: projections up to the queries, keys and values, which every position of a prompt goes through. */
  readonly projections: readonly Part[];
  /** By decoder layer: everything after attention; of the last layer only the wanted positions need it. */
  readonly rest: readonly Part[];
  /** By decoder layer: multiply-adds for a position and one that it looks back on. */
  readonly attention: readonly number[];
}

/**
 * Sorts the weights of a decoder by when they are used. Vision towers and rows of the embedding table do not count.
 *
 * @param weights all of the checkpoint
 */
export function weightWork(weights: Iterable<Weight>, work: TokenWork): WeightWork {
  const empty = (): Part => ({ bytes: 0, elements: 0, routedBytes: 0 });
  const sorted = {
    head: empty(),
    projections: work.attention.map(empty),
    rest: work.attention.map(empty),
    attention: work.attention,
  };
  let table: Weight | undefined;
  let hasHead = false;
  for (const weight of weights) {
    const use = work.use(weight.name);
    const { part, layer = -1 } = use;
    if (part === 'embedding' && layer < 0) table = weight;
    if (part === 'head') {
      hasHead = true;
      add(sorted.head, weight, use);
    }
    if (part !== 'projections' && part !== 'rest') continue;
    const target = sorted[part][layer];
    if (target) add(target, weight, use);
  }
  if (!hasHead && table) add(sorted.head, table, { ...work.use(table.name), share: 1 });
  return sorted;
}

function add(part: Part, { shape, byteLength }: Weight, use: TensorUse): void {
  const { share } = use;
  part.bytes += byteLength * share;
  if (isRoutedExpert(use)) part.routedBytes += byteLength * share;
  // Vectors are added or scaled, not multiplied.
  if (shape.length > 1) part.elements += shape.reduce((a, b) => a * b, 1) * share;
}

/**
 * Bytes of weights that a step of decoding reads. The KV cache comes on top: it grows with the sequence.
 *
 * @param experts that tokens of several requests go to together, in multiples of those of one token
 */
export function bytesPerDecodedToken({ head, projections, rest }: WeightWork, experts = 1): number {
  const bytes = (part: Part) => part.bytes + (experts - 1) * part.routedBytes;
  return Math.round([head, ...projections, ...rest].reduce((sum, part) => sum + bytes(part), 0));
}

/**
 * Floating-point operations of a prefill, two a multiply-add: matrix products and causal attention scores. The last layer
 * after attention, and the head, are computed for the last position only.
 */
export function prefillFlops(tokens: number, work: WeightWork): number {
  const all = (parts: readonly Part[]) => parts.reduce((sum, part) => sum + part.elements, 0);
  const everywhere = all(work.projections) + all(work.rest.slice(0, -1));
  const once = work.head.elements + all(work.rest.slice(-1));
  return Math.round(2 * (tokens * everywhere + once) + attentionFlops(tokens, work.attention));
}

/** n(n+1)/2 pairs of a position and one that it looks back on. */
function attentionFlops(tokens: number, layers: readonly number[]): number {
  return tokens * (tokens + 1) * layers.reduce((sum, multiplyAdds) => sum + multiplyAdds, 0);
}
