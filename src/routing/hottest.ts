/** Which experts a recording needs most, so that these may be kept at hand. */
import type { RoutingFile } from './file.ts';
import { NOT_ROUTED } from './record.ts';

/** An expert, and how many passes of a recording read its weights. */
export interface HotExpert {
  /** Place of the layer among those that route. */
  readonly place: number;
  readonly expert: number;
  readonly reads: number;
}

/** The experts that any pass needs, the most needed first, among equals in the order of the model. */
export function hottestExperts({ header, records }: RoutingFile): HotExpert[] {
  const { layers, experts, perToken } = header;
  const reads = new Float64Array(layers.length * experts);
  // The pass that has read an expert last, from 1 on: one in which several tokens go to an expert reads it once.
  const lastPass = new Float64Array(reads.length);
  for (const { pass, experts: chosen } of records)
    for (const [i, expert] of chosen.entries()) {
      if (expert === NOT_ROUTED) continue;
      const at = (Math.floor(i / perToken) % layers.length) * experts + expert;
      if (lastPass[at] !== pass + 1) reads[at] = (reads[at] as number) + 1;
      lastPass[at] = pass + 1;
    }
  return [...reads]
    .map((count, at) => ({ place: Math.floor(at / experts), expert: at % experts, reads: count }))
    .filter((expert) => expert.reads > 0)
    .sort((a, b) => b.reads - a.reads);
}

/** Share of all reads of experts that go to the first `count` of them; 0 where there are none. */
export function readShare(hottest: readonly HotExpert[], count: number): number {
  const sum = (experts: readonly HotExpert[]) => experts.reduce((total, { reads }) => total + reads, 0);
  return hottest.length === 0 ? 0 : sum(hottest.slice(0, count)) / sum(hottest);
}
