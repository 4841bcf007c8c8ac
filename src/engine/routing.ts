/** Where the routers send tokens: counts of all passes, and records of each for those who listen. */

import type { RoutedExperts } from '../models/architecture.ts';
import * as io from '../models/io.ts';
import { NOT_ROUTED, type RoutingListener, type RoutingRecord } from '../routing/record.ts';
import type { Tensor } from '../runtime/ort.ts';
import type { Batch, Chunk } from './batch.ts';
import type { Sequence } from './sequence.ts';

/** What of the routers' choices somebody wants to hear. */
export type RoutingDetail = 'experts' | 'weights';

/** Tells listeners, and sequences that keep it, where the tokens of each pass went. */
export class RoutingTap {
  readonly #listeners = new Map<RoutingListener, RoutingDetail>();
  readonly #requests = new WeakMap<Sequence, number>();
  #passes = 0;
  #seen = 0;

  /** What a pass over some chunks has to fetch; undefined where nobody wants to know. */
  wanted(chunks: readonly Chunk[]): RoutingDetail | undefined {
    const isFollowed = chunks.some(({ sequence }) => sequence.routed);
    if (this.#listeners.size === 0) return isFollowed ? 'experts' : undefined;
    return [...this.#listeners.values()].includes('weights') ? 'weights' : 'experts';
  }

  add(listener: RoutingListener, detail: RoutingDetail): void {
    this.#listeners.set(listener, detail);
  }

  remove(listener: RoutingListener): void {
    this.#listeners.delete(listener);
  }

  /**
   * Tells of a pass that has run, before its sequences count its tokens as computed.
   * @param outputs of the pass
   * @param detail what was wanted when it began
   */
  tell(
    chunks: readonly Chunk[],
    batch: Batch,
    outputs: Readonly<Record<string, Tensor>>,
    routed: RoutedExperts,
    detail: RoutingDetail,
  ): void {
    const experts = gather(
      batch,
      outputs,
      routed,
      io.routerIndices,
      new Uint16Array(sizeOf(batch, routed)).fill(NOT_ROUTED),
    );
    const weights =
      detail === 'weights'
        ? gather(batch, outputs, routed, io.routerWeights, new Float32Array(sizeOf(batch, routed)))
        : undefined;
    const pass = this.#passes++;
    const width = routed.layers.length * routed.perToken;
    let first = 0;
    for (const { sequence, tokens } of chunks) {
      const [from, to] = [first * width, (first + tokens) * width];
      first += tokens;
      const { computed: start } = sequence;
      sequence.routed?.take(start, experts.subarray(from, to));
      const phase = start >= sequence.prompt.ids.length ? 'decode' : 'prefill';
      const common = { pass, request: this.#numberOf(sequence), phase, start, tokens } as const;
      for (const [listener, wanted] of [...this.#listeners]) {
        // A copy for each: what one does to it, no other sees.
        const record = { ...common, experts: experts.slice(from, to) };
        call(
          listener,
          wanted === 'weights' && weights ? { ...record, weights: weights.slice(from, to) } : record,
        );
      }
    }
  }

  #numberOf(sequence: Sequence): number {
    const known = this.#requests.get(sequence) ?? this.#seen++;
    this.#requests.set(sequence, known);
    return known;
  }
}

/** A listener's fault is its owner's affair, not that of the generations in the pass. */
function call(listener: RoutingListener, record: RoutingRecord): void {
  try {
    listener(record);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

const sizeOf = ({ ids }: Batch, { layers, perToken }: RoutedExperts) => ids.length * layers.length * perToken;

/** From an output a layer to [tokens, layers, k]. */
function gather<T extends Uint16Array | Float32Array>(
  { ids, wanted }: Batch,
  outputs: Readonly<Record<string, Tensor>>,
  { layers, perToken: k }: RoutedExperts,
  portOf: (layer: number, k: number) => io.Port,
  into: T,
): T {
  for (const [place, layer] of layers.entries()) {
    const { data, dims } = outputs[portOf(layer, k).name] as Tensor;
    const rows = dims[0] as number;
    // Fewer rows than tokens are those that are wanted.
    const tokenOf = rows === ids.length ? (row: number) => row : (row: number) => Number(wanted[row]);
    for (let row = 0; row < rows; row++) {
      const to = (tokenOf(row) * layers.length + place) * k;
      for (let j = 0; j < k; j++) into[to + j] = (data as Int32Array | Float32Array)[row * k + j] as number;
    }
  }
  return into;
}
