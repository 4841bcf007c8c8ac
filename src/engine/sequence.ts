import * as io from '../models/io.ts';
import { Tensor } from '../runtime/ort.ts';

/** What the vision tower makes of the pictures of one prompt, in the order of their placeholders. */
export interface VisualFeatures {
  /** Replaces the placeholders' embeddings, fp32 [placeholders, hidden]. */
  readonly embeds: Float32Array;
  /** Added to the placeholders' hidden states after the first layers, fp32 [placeholders, hidden] each. */
  readonly deepstack: readonly Float32Array[];
}

/** One row of a batch, without padding. */
export interface Prompt {
  readonly ids: readonly number[];
  /** Position of every token on each rotary axis; without it a token's position is its place. */
  readonly positions?: readonly ArrayLike<number>[];
  /** Position minus place, for tokens after the prompt. */
  readonly positionDelta?: number;
  /** Places of placeholders, ascending, and what stands for them. */
  readonly visual?: { readonly places: readonly number[]; readonly features: VisualFeatures };
}

/** Rotary position of the token at `place`, which may lie beyond the prompt. */
export function positionAt(prompt: Prompt, place: number, axis: number): number {
  return prompt.positions?.[axis]?.[place] ?? place + (prompt.positionDelta ?? 0);
}

/**
 * Graph inputs for the placeholders within tokens [start, start + length) of the prompts, or undefined where there are none.
 * @param hidden width of the features
 */
export function visualFeeds(
  prompts: readonly Prompt[],
  start: number,
  length: number,
  hidden: number,
): Record<string, Tensor> | undefined {
  const rows: number[] = [];
  const parts: { features: VisualFeatures; from: number; to: number }[] = [];
  for (const [row, { visual }] of prompts.entries()) {
    if (!visual) continue;
    const from = firstAtLeast(visual.places, start);
    const to = firstAtLeast(visual.places, start + length);
    for (const place of visual.places.slice(from, to)) rows.push(row * length + place - start);
    if (to > from) parts.push({ features: visual.features, from, to });
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
