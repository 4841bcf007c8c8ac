/** How many weights a model has and a token reads, and how many bytes they take in a storage. Pure arithmetic; nothing is read. */
import { type DType, ELEMENT_TYPES } from '../dtype.ts';
import type { MatrixKind, TensorUse, TokenWork } from '../models/architecture.ts';
import type { QuantizationScheme } from '../quantize/scheme.ts';
import type { RoundScheme } from '../runtime/types.ts';

/** What a weight is stored as depends on this: matrices may be quantized, the rest (routers, norms, towers, the embedding) stays. */
export type WeightPart = MatrixKind | 'embedding' | 'other';

const WEIGHT_PARTS: readonly WeightPart[] = ['experts', 'attention', 'head', 'embedding', 'other'];

type Counts = Record<WeightPart, number>;

/** Numbers of weights, by part. */
export interface WeightCounts {
  readonly stored: Readonly<Counts>;
  /** Those that one decoded token reads: of routed experts k of E; a tied head reads the embedding. */
  readonly token: Readonly<Counts>;
  /** Of {@link stored}, those of tables beside the embedding, of which a token reads a few rows: they stay in their file. */
  readonly tables: number;
  /** Of {@link token}, those of routed experts: each token reads others. */
  readonly routed: number;
  /** Values that all products of the widest layer give for a token. */
  readonly widest: number;
}

/** A tensor that a model asks for, or has. */
export interface Shaped {
  readonly name: string;
  readonly shape: readonly number[];
}

const elementsOf = ({ shape }: Shaped) => shape.reduce((a, b) => a * b, 1);

/** Which part a tensor belongs to; undefined for one that is not read. */
function kindOf(part: TensorUse['part'], matrix: MatrixKind | undefined): WeightPart | undefined {
  if (part === 'unread' || part === 'unknown') return undefined;
  return part === 'head' || part === 'embedding' ? part : (matrix ?? 'other');
}

/** @param weights every tensor of the model */
export function countWeights(weights: Iterable<Shaped>, work: TokenWork): WeightCounts {
  const none = (): Counts => ({ experts: 0, attention: 0, head: 0, embedding: 0, other: 0 });
  const stored = none();
  const token = none();
  let routed = 0;
  let tables = 0;
  let hasHead = false;
  const rows: number[] = [];
  for (const weight of weights) {
    const { part, matrix, share, layer } = work.use(weight.name);
    const kind = kindOf(part, matrix);
    if (kind === undefined) continue;
    const elements = elementsOf(weight);
    hasHead ||= part === 'head';
    stored[kind] += elements;
    if (part === 'embedding' && layer !== undefined) tables += elements;
    if (part === 'embedding' || part === 'tower') continue;
    token[kind] += elements * share;
    if (share < 1) routed += elements * share;
    // Of stacked experts, the rows of each.
    const columns = weight.shape.length < 2 ? undefined : weight.shape.at(-1);
    if (layer !== undefined && columns) rows[layer] = (rows[layer] ?? 0) + (share * elements) / columns;
  }
  if (!hasHead) token.embedding = stored.embedding - tables;
  const widest = rows.reduce((a, b) => Math.max(a, b), 0);
  return { stored, token, tables, routed, widest };
}

/** Bytes that a weight takes, by part, scales included. */
export type Storage = Readonly<Record<WeightPart, number>>;

export function plainStorage(dtype: DType): Storage {
  const { bytes } = ELEMENT_TYPES[dtype];
  return { experts: bytes, attention: bytes, head: bytes, embedding: bytes, other: bytes };
}

/** What stored weights take on average, by part. */
export function measuredStorage(
  weights: Iterable<Shaped & { readonly byteLength: number }>,
  { stored }: WeightCounts,
  work: TokenWork,
): Storage {
  const bytes: Counts = { experts: 0, attention: 0, head: 0, embedding: 0, other: 0 };
  for (const { name, byteLength } of weights) {
    const { part, matrix } = work.use(name);
    const kind = kindOf(part, matrix);
    if (kind !== undefined) bytes[kind] += byteLength;
  }
  const means = WEIGHT_PARTS.map((part) => [part, bytes[part] / Math.max(1, stored[part])] as const);
  return Object.fromEntries(means) as Storage;
}

/** What rounding makes of a storage. */
export function roundedStorage(scheme: QuantizationScheme, stored: Storage): Storage {
  const rounded = Object.entries(scheme).map(([kind, own]) => {
    const before = stored[kind as MatrixKind];
    // Codes of few bits are left alone.
    return [kind, before < 1 ? before : bitsOf(own) / 8] as const;
  });
  return { ...stored, ...Object.fromEntries(rounded) };
}

/** Of int8 the scale of a row is not counted: it is a thousandth. */
function bitsOf(scheme: RoundScheme): number {
  return scheme.bits === 8 ? 8 : 4 + (scheme.zeroPoints ? 20 : 16) / scheme.group;
}

/**
 * The storage of a checkpoint that says it is quantized, by the size of its files: experts and attention share what the parts that stay
 * as they are leave.
 */
export function storageOfFiles(counts: WeightCounts, fileBytes: number, dtype: DType): Storage {
  const plain = plainStorage(dtype);
  const { experts, attention } = counts.stored;
  const left =
    fileBytes -
    (['head', 'embedding', 'other'] as const).reduce(
      (sum, part) => sum + counts.stored[part] * plain[part],
      0,
    );
  const each = Math.min(plain.experts, Math.max(0.25, left / Math.max(1, experts + attention)));
  return { ...plain, experts: each, attention: each };
}

/** Bytes of so many weights in a storage. */
export function bytesOf(counts: Readonly<Counts>, storage: Storage): number {
  return Math.round(WEIGHT_PARTS.reduce((sum, part) => sum + counts[part] * storage[part], 0));
}
