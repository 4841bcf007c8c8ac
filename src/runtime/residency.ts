/** Experts that are partly where they are computed with, and are brought there when chosen. */

/** What experts that come and go have cost. */
export interface ResidencyStats {
  /** Weights on the GPU; on the CPU, what they may take of memory. */
  readonly residentBytes: number;
  /** Experts wanted that were there. */
  readonly hits: number;
  /** Experts that had to be brought: on the CPU, read from the disk. */
  readonly fetches: number;
  readonly fetchedBytes: number;
  /** Experts of which reading began before their layer had chosen, by a guess; on the CPU. */
  readonly readAhead: number;
  /** Of those, the ones that the layer chose. */
  readonly readAheadWanted: number;
  /** Share of the experts wanted that were there; absent before the first. */
  readonly hitRate?: number;
  /** Experts that stay. */
  readonly pinned: number;
  /** Of the hits, those on experts that stay. */
  readonly pinnedHits: number;
}

/** What the native side counts of it. */
export type ResidencyCounts = Omit<ResidencyStats, 'hitRate'>;

export function residencyStats(counts: ResidencyCounts): ResidencyStats {
  const { hits, fetches } = counts;
  const wanted = hits + fetches;
  return { ...counts, ...(wanted > 0 && { hitRate: hits / wanted }) };
}

/** An expert by the tensor that its gate is, or is in, and its place among those of its layer. */
export interface ExpertPlace {
  readonly gate: string;
  readonly index: number;
}

/** A bound on the memory of weights, which only some of the experts have room in. */
export interface ExpertBounds {
  /** Of all weights. */
  readonly maxBytes: number;
  /** Of the weights that are no experts. */
  readonly otherBytes: number;
  /** Tensors of experts. */
  readonly experts: ReadonlySet<string>;
}
