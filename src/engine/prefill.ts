import { setImmediate } from 'node:timers/promises';
import type { Tensor } from '../runtime/ort.ts';
import type { KvCache } from './cache/kv-cache.ts';
import type { DecoderPassResult, Head } from './pass.ts';
import type { DecoderRuntime } from './runner.ts';
import { type Prompt, visualFeeds } from './sequence.ts';
import type { BackendReader } from './tuning/policy.ts';

/** Most tokens of one prefill pass: large enough for full GEMM speed, small enough to bound activations. */
const CHUNK_TOKENS = 512;

/** A stretch of one pass: tokens [start, start + length) of `rows`. */
interface Chunk {
  readonly rows: readonly number[];
  readonly start: number;
  readonly length: number;
}

/** One finished pass of a prefill. */
export interface ChunkResult extends DecoderPassResult {
  /** For each wanted logit row, in order: which prompt row and which of its tokens it belongs to. */
  readonly logitsOf: readonly { readonly row: number; readonly token: number }[];
  readonly chunk: Chunk;
}

export interface PrefillRequest {
  readonly head: Head;
  readonly intermediates: boolean;
  readonly prompts: readonly Prompt[];
  readonly cache: KvCache;
  readonly experts: BackendReader;
  /** Whether the logits of a prompt's token are wanted. */
  readonly wanted: (row: number, token: number) => boolean;
  /** How many of the highest logits of each wanted token to list; default 0. */
  readonly candidates?: number;
  /** Where the wanted logits of these prompt rows go; without it the engine makes a tensor. */
  readonly logits?: (rows: readonly number[]) => Tensor | undefined;
}

/**
 * Runs prompts through the decoder in passes of bounded size, filling the cache. Short batches go as one pass, padded on the
 * right, where causality hides the filler; longer ones row by row, in equal parts, where filler would cost the most.
 */
export async function* prefill(
  runtime: DecoderRuntime,
  request: PrefillRequest,
  signal?: AbortSignal,
): AsyncGenerator<ChunkResult> {
  const { prompts, cache } = request;
  await cache.reserve(Math.max(...prompts.map((prompt) => prompt.ids.length)));
  for (const chunk of planChunks(prompts)) {
    const { rows, start, length } = chunk;
    const prompted = rows.map((row) => prompts[row] as Prompt);
    const inputIds = prompted.map(({ ids }) => padRight(ids.slice(start, start + length), length));
    const lengths = prompted.map(({ ids }) => Math.min(ids.length - start, length));
    const visual = visualFeeds(prompted, start, length, runtime.model.hiddenSize);
    const logitsRows: number[] = [];
    const logitsOf: { row: number; token: number }[] = [];
    for (const [i, row] of rows.entries()) {
      for (let t = 0; t < (lengths[i] as number); t++) {
        if (!request.wanted(row, start + t)) continue;
        logitsRows.push(i * length + t);
        logitsOf.push({ row, token: start + t });
      }
    }
    const run = {
      head: request.head,
      intermediates: request.intermediates,
      visual: visual !== undefined,
      visualFeeds: visual,
      prompts: prompted,
      inputIds,
      lengths,
      logitsRows,
      candidates: request.candidates,
      logits: request.logits?.(logitsOf.map(({ row }) => row)),
      starts: rows.map(() => start),
      cache: rows.length === cache.rows ? cache.tensors : cache.row(rows[0] as number),
      experts: request.experts({ tokens: rows.length * length, phase: 'prefill' }),
    };
    yield { ...(await runtime.run(run, signal)), logitsOf, chunk };
    await setImmediate();
  }
}

export interface StepRequest {
  readonly prompts: readonly Prompt[];
  /** One new token a row. */
  readonly tokens: readonly number[];
  /** Tokens each row already has in the cache. */
  readonly lengths: readonly number[];
  readonly cache: KvCache;
  readonly experts: string;
  readonly candidates: number;
  /** Where the logits go, fp32 [rows, vocab]. */
  readonly logits: Tensor;
}

/** Feeds one more token to every row. */
export async function step(
  runtime: DecoderRuntime,
  { prompts, tokens, lengths, cache, ...rest }: StepRequest,
  signal?: AbortSignal,
): Promise<DecoderPassResult> {
  await cache.reserve(Math.max(...lengths) + 1);
  const run = {
    head: 'logits' as const,
    intermediates: false,
    visual: false,
    prompts,
    inputIds: tokens.map((token) => [token]),
    starts: lengths,
    lengths: tokens.map(() => 1),
    logitsRows: tokens.map((_, row) => row),
    cache: cache.tensors,
    ...rest,
  };
  return runtime.run(run, signal);
}

function planChunks(prompts: readonly Prompt[]): Chunk[] {
  const lengths = prompts.map(({ ids }) => ids.length);
  const longest = Math.max(...lengths);
  const rows = [...prompts.keys()];
  if (prompts.length * longest <= CHUNK_TOKENS) return [{ rows, start: 0, length: longest }];
  return rows.flatMap((row) => planRow(row, lengths[row] as number));
}

function planRow(row: number, tokens: number): Chunk[] {
  const parts = Math.ceil(tokens / CHUNK_TOKENS);
  const size = Math.ceil(tokens / parts);
  return Array.from({ length: parts }, (_, i) => {
    const start = i * size;
    return { rows: [row], start, length: Math.min(size, tokens - start) };
  });
}

function padRight(ids: readonly number[], length: number): readonly number[] {
  return ids.length === length ? ids : [...ids, ...Array<number>(length - ids.length).fill(0)];
}
