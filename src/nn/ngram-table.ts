import { CheckpointError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import type { Scope } from './scope.ts';

export interface NgramConfig {
  readonly vocab_size: number;
  /** Largest order. */
  readonly ngram_size: number;
  /** Heads for each order from 2 on. */
  readonly heads_per_ngram: number;
  readonly ple_embed_dim: number;
  readonly ngram_vocab_size_base: number;
  readonly make_ngram_vocab_size_divisible_by: number;
  /** Tensors in which the table is stored. */
  readonly split_ngram_parts: number;
  readonly seed: number;
  /** What ends a text: n-grams do not reach over it. */
  readonly endId: number;
}

/** Heads of all orders. */
function ngramHeads({ ngram_size, heads_per_ngram }: NgramConfig): number {
  return (ngram_size - 1) * heads_per_ngram;
}

/**
 * The rows of the table that each token's n-grams are hashed to. The table is read row by row, wherever it lies.
 * @param g the memory's `ple_embedding`
 * @param ids int64 [tokens] and [ngram_size - 1, tokens]
 * @param index which of the model's memories it is, from 0
 * @returns fp32 [tokens, heads, width of a head]
 */
export function ngramTable(
  g: Scope,
  ids: { readonly own: Value; readonly preceding: Value },
  config: NgramConfig,
  index: number,
): Value {
  const hashes = defaultHashes(config, index);
  const stored = (name: string, values: readonly bigint[]) =>
    g.graph.weights.integers(g.name(name), [values.length]) ?? values;
  const sizes = stored('ngram_heads_vocab_sizes', hashes.sizes);
  const offsets = stored('ngram_heads_offsets', hashes.offsets);
  const total = hashes.sizes.reduce((sum, size) => sum + Number(size), 0);
  const divisor = config.make_ngram_vocab_size_divisible_by;
  const tableRows = Math.ceil(total / divisor) * divisor;
  for (const [head, size] of sizes.entries())
    assertWithin(g, head, { size, offset: offsets[head] as bigint }, tableRows);
  const [rows] = g.ownOps(
    'NgramRows',
    [
      ...[ids.own, ids.preceding, g.graph.int64(stored('layer_multipliers', hashes.multipliers))],
      ...[g.graph.int64(sizes), g.graph.int64(offsets)],
    ],
    { end_id: config.endId },
  ) as [Value];
  const [weight, ...parts] = tableParts(g.at('ngram_embedding'), config, tableRows);
  return g.ownOps('Embedding', [rows], { weight: weight as number, parts, on_host: 1 })[0] as Value;
}

/** A GPU, where rows are found, does not look whether the table has them. */
function assertWithin(
  g: Scope,
  head: number,
  { size, offset }: { readonly size: bigint; readonly offset: bigint },
  tableRows: number,
): void {
  if (size > 0n && offset >= 0n && offset + size <= BigInt(tableRows)) return;
  throw new CheckpointError(
    `${g.name('ngram_heads_vocab_sizes')} and ngram_heads_offsets give head ${head} the ${size} rows from row ${offset} on; ` +
      `expected some of the ${tableRows} rows of the table`,
  );
}

/** Handles of the tensors that make up the table, in their order. */
function tableParts(g: Scope, config: NgramConfig, rows: number): number[] {
  const width = config.ple_embed_dim / ngramHeads(config);
  if (g.graph.weights.info(g.name('weight'))) return [g.rowsInFile('weight', [rows, width])];
  // As torch.chunk cuts it.
  const size = Math.ceil(rows / config.split_ngram_parts);
  return Array.from({ length: Math.ceil(rows / size) }, (_, n) =>
    g.rowsInFile(`shard_${n}.weight`, [Math.min(size, rows - n * size), width]),
  );
}

const MASK = (1n << 64n) - 1n;
const GAMMA = 0x9e3779b97f4a7c15n;

/** One number of the generator SplitMix64 (Steele, Lea & Flood 2014). */
function splitMix(seed: bigint): bigint {
  let value = (seed + GAMMA) & MASK;
  value = ((value ^ (value >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  value = ((value ^ (value >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return value ^ (value >> 31n);
}

/** Between the seeds of one memory and the next. */
const SEED_STEP = 10007n;

/** By what n-grams are hashed where the checkpoint does not say (HF `Qwen4ExpTextNGramEmbedding`). */
export function defaultHashes(
  config: NgramConfig,
  index: number,
): { readonly multipliers: bigint[]; readonly sizes: bigint[]; readonly offsets: bigint[] } {
  const bound = ((1n << 63n) - 1n) / BigInt(config.vocab_size) / 2n;
  const seed = BigInt(config.seed) + SEED_STEP * BigInt(index);
  const multipliers = Array.from({ length: config.ngram_size }, (_, i) => {
    const value = splitMix((seed + GAMMA * BigInt(i + 1)) & MASK);
    return 2n * (value % (bound > 0n ? bound : 1n)) + 1n;
  });
  const heads = ngramHeads(config);
  const sizes = primesOf(config, (index + 1) * heads).slice(index * heads);
  let total = 0;
  const offsets = sizes.map((size) => {
    const offset = total;
    total += size;
    return BigInt(offset);
  });
  return { multipliers, sizes: sizes.map(BigInt), offsets };
}

/** Every memory goes on where the one before it ended. */
const known = new WeakMap<NgramConfig, number[]>();

/** The first primes from the config's base on. */
function primesOf(config: NgramConfig, count: number): readonly number[] {
  const primes = known.get(config) ?? [];
  known.set(config, primes);
  for (let value = (primes.at(-1) ?? config.ngram_vocab_size_base - 1) + 1; primes.length < count; value++)
    if (isPrime(value)) primes.push(value);
  return primes;
}

function isPrime(value: number): boolean {
  if (value < 2 || (value % 2 === 0 && value !== 2)) return false;
  for (let divisor = 3; divisor * divisor <= value; divisor += 2) if (value % divisor === 0) return false;
  return true;
}
