/** One pass: tokens of several sequences end to end. Only attention and recurrent layers look at the borders between them. */
import type { Model } from '../models/architecture.ts';
import * as io from '../models/io.ts';
import type { CacheSpec } from '../nn/cache-spec.ts';
import { Tensor } from '../runtime/ort.ts';
import { blocksFor } from './cache/pool.ts';
import { equalPart } from './scheduler.ts';
import type { Sequence, VisualFeatures } from './sequence.ts';

/** The next `tokens` pending tokens of a sequence. */
export interface Chunk {
  readonly sequence: Sequence;
  readonly tokens: number;
}

export interface Batch {
  /** int64 [tokens] */
  readonly ids: BigInt64Array;
  /** Rotary positions, int64 [axes, tokens]. */
  readonly positions: BigInt64Array;
  /** The ids before each token, the nearest first, -1 where there are none; int64 [count, tokens]. */
  readonly preceding: BigInt64Array;
  /** Rotary positions of the first token of each token's block, int64 [axes, tokens]; empty without blocks. */
  readonly blockPositions: BigInt64Array;
  /** First token of every row, and the number of all, int32 [rows + 1]. */
  readonly rowStarts: Int32Array;
  /** Positions of every row that the cache holds already, int32 [rows]. */
  readonly pastLengths: Int32Array;
  /** Blocks of every row's positions, int32 [rows, width]; -1 beyond them. */
  readonly blockTables: Int32Array;
  /** Where every row's recurrent states lie, int32 [rows]. */
  readonly stateSlots: Int32Array;
  /** Tokens whose logits are asked for, int64 [wanted]. */
  readonly wanted: BigInt64Array;
}

/** What a model is told of each token besides its id. */
export type TokenInputs = Pick<Model, 'positionAxes' | 'precedingIds' | 'positionBlock'>;

/**
 * Lays chunks end to end. The cache has blocks for all of them.
 * @param wanted whether the logits of a sequence's token at `place` are asked for
 */
export function makeBatch(
  chunks: readonly Chunk[],
  { positionAxes: axes, precedingIds: before = 0, positionBlock: block = 0 }: TokenInputs,
  wanted: (sequence: Sequence, place: number) => boolean,
): Batch {
  const rows = chunks.length;
  const total = chunks.reduce((sum, { tokens }) => sum + tokens, 0);
  const width = tableWidth(chunks);
  const ids = new BigInt64Array(total);
  const positions = new BigInt64Array(axes * total);
  const preceding = new BigInt64Array(before * total).fill(-1n);
  const blockPositions = new BigInt64Array(block > 0 ? axes * total : 0);
  const rowStarts = new Int32Array(rows + 1);
  const pastLengths = new Int32Array(rows);
  const blockTables = new Int32Array(rows * width).fill(-1);
  const stateSlots = new Int32Array(rows);
  const asked: bigint[] = [];
  let token = 0;
  for (const [row, { sequence, tokens }] of chunks.entries()) {
    const past = sequence.computed;
    rowStarts[row] = token;
    pastLengths[row] = past;
    stateSlots[row] = sequence.cache.slot;
    blockTables.set(sequence.cache.blocks.slice(0, blocksFor(past + tokens)), row * width);
    for (let place = past; place < past + tokens; place++, token++) {
      ids[token] = BigInt(sequence.idAt(place));
      for (let axis = 0; axis < axes; axis++)
        positions[axis * total + token] = BigInt(sequence.positionAt(place, axis));
      for (let back = 1; back <= Math.min(before, place); back++)
        preceding[(back - 1) * total + token] = BigInt(sequence.idAt(place - back));
      for (let axis = 0; axis < axes && block > 0; axis++)
        blockPositions[axis * total + token] = BigInt(sequence.positionAt(place - (place % block), axis));
      if (wanted(sequence, place)) asked.push(BigInt(token));
    }
  }
  rowStarts[rows] = token;
  const wantedTokens = BigInt64Array.from(asked);
  const tokens = { ids, positions, preceding, blockPositions };
  return { ...tokens, rowStarts, pastLengths, blockTables, stateSlots, wanted: wantedTokens };
}

/** Blocks of the longest row; rounded up to a power of two, since a recorded step is of one width. */
function tableWidth(chunks: readonly Chunk[]): number {
  const most = Math.max(...chunks.map(({ sequence, tokens }) => blocksFor(sequence.computed + tokens)));
  return 2 ** Math.ceil(Math.log2(Math.max(most, 1)));
}

/** Inputs of a graph before they are tensors. */
export interface BatchInput {
  readonly name: string;
  readonly data: BigInt64Array | Int32Array;
  readonly dims: readonly number[];
}

/** The batch as inputs of a model's graph with a head for logits, those of wide elements first. */
export function batchInputs(batch: Batch, caches: readonly CacheSpec[]): BatchInput[] {
  const { ids, positions, preceding, blockPositions, rowStarts, pastLengths, wanted } = batch;
  const [tokens, rows] = [ids.length, pastLengths.length];
  const { blockTables, stateSlots } = io.cacheInputs(caches);
  const input = ({ name }: { name: string }, data: BatchInput['data'], ...dims: number[]) => [
    { name, data, dims },
  ];
  const perToken = (name: string, data: BigInt64Array) =>
    data.length > 0 ? input({ name }, data, data.length / tokens, tokens) : [];
  return [
    ...input(io.INPUT_IDS, ids, tokens),
    ...input({ name: io.POSITION_IDS }, positions, positions.length / tokens, tokens),
    ...perToken(io.PRECEDING_IDS, preceding),
    ...perToken(io.BLOCK_POSITIONS, blockPositions),
    ...input(io.LOGITS_ROWS, wanted, wanted.length),
    ...input(io.ROW_STARTS, rowStarts, rows + 1),
    ...input(io.PAST_LENGTHS, pastLengths, rows),
    ...(blockTables ? input(blockTables, batch.blockTables, rows, batch.blockTables.length / rows) : []),
    ...(stateSlots ? input(stateSlots, batch.stateSlots, rows) : []),
  ];
}

/**
 * How prompts go through the decoder: several short ones in one pass of at most {@link io.CHUNK_TOKENS} tokens, a longer one by itself,
 * in equal parts.
 */
export function planPrefill(sequences: readonly Sequence[]): Chunk[][] {
  const passes: Chunk[][] = [];
  let room = 0;
  for (const sequence of sequences) {
    const tokens = sequence.pending;
    if (tokens > io.CHUNK_TOKENS) {
      const size = equalPart(tokens, io.CHUNK_TOKENS);
      for (let start = 0; start < tokens; start += size)
        passes.push([{ sequence, tokens: Math.min(size, tokens - start) }]);
      room = 0;
    } else if (tokens > room) {
      passes.push([{ sequence, tokens }]);
      room = io.CHUNK_TOKENS - tokens;
    } else {
      passes.at(-1)?.push({ sequence, tokens });
      room -= tokens;
    }
  }
  return passes;
}

/**
 * Graph inputs for the placeholders among the chunks' tokens, or undefined where there are none.
 * @param hidden width of the features
 */
export function visualFeeds(chunks: readonly Chunk[], hidden: number): Record<string, Tensor> | undefined {
  const rows: number[] = [];
  const parts: { features: VisualFeatures; from: number; to: number }[] = [];
  let first = 0;
  for (const { sequence, tokens } of chunks) {
    const { visual } = sequence.prompt;
    if (visual) {
      const from = firstAtLeast(visual.places, sequence.computed);
      const to = firstAtLeast(visual.places, sequence.computed + tokens);
      for (const place of visual.places.slice(from, to)) rows.push(first + place - sequence.computed);
      if (to > from) parts.push({ features: visual.features, from, to });
    }
    first += tokens;
  }
  if (rows.length === 0) return undefined;
  const gather = (pick: (features: VisualFeatures) => Float32Array) => {
    const data = new Float32Array(rows.length * hidden);
    let at = 0;
    for (const { features, from, to } of parts) {
      data.set(pick(features).subarray(from * hidden, to * hidden), at);
      at += (to - from) * hidden;
    }
    return new Tensor('float32', data, [rows.length, hidden]);
  };
  const feeds: Record<string, Tensor> = {
    [io.VISUAL_ROWS.name]: new Tensor('int64', BigInt64Array.from(rows, BigInt), [rows.length]),
    [io.visualEmbeds(hidden).name]: gather((features) => features.embeds),
  };
  const layers = parts[0]?.features.deepstack.length ?? 0;
  for (let layer = 0; layer < layers; layer++)
    feeds[io.deepstack(layer, hidden).name] = gather((features) => features.deepstack[layer] as Float32Array);
  return feeds;
}

/** Index of the first entry that is at least `value`. */
function firstAtLeast(sorted: readonly number[], value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
