import type { ExpertsBackend } from '../experts/interface.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import { Graph } from '../graph/graph.ts';
import type { Model } from '../models/architecture.ts';
import type { Variant } from '../nn/scope.ts';
import type { RouterCounts } from '../runtime/binding.ts';
import type { RecordingSession, WeightStore } from '../runtime/types.ts';
import { CheckpointWeights } from '../weights/checkpoint-weights.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';
import { type DecoderOptions, disposedError, openGraph, targetOf } from './open-graph.ts';

/** What distinguishes one graph of a loaded model from another. */
export type GraphVariant = Pick<Variant, 'head' | 'intermediates' | 'routing' | 'visual'>;

/** What leaves a decoder's graph. */
export type Head = Variant['head'];

/** The sessions of a loaded decoder: one for each graph variant, opened when first wanted, all over the same weights. */
export class Sessions {
  readonly #model: Model;
  readonly #checkpoint: ModelCheckpoint;
  readonly #store: WeightStore;
  readonly #options: DecoderOptions;
  readonly #sessions = new Map<string, Promise<RecordingSession>>();
  /** Of these, those that have opened. */
  readonly #opened = new Set<RecordingSession>();
  #disposed = false;

  constructor(model: Model, checkpoint: ModelCheckpoint, store: WeightStore, options: DecoderOptions) {
    this.#model = model;
    this.#checkpoint = checkpoint;
    this.#store = store;
    this.#options = options;
  }

  /** Built-in backends share a session: the selector tells them apart on each run. */
  get(variant: GraphVariant, experts: string, signal?: AbortSignal): Promise<RecordingSession> {
    this.assertOpen();
    const backend = ExpertsInterface.isBuiltIn(experts) ? '' : experts;
    const { head, intermediates, routing = false, visual } = variant;
    const key = JSON.stringify([head, intermediates, routing, visual, backend]);
    let session = this.#sessions.get(key);
    if (!session) {
      session = this.#open(variant, ExpertsInterface.get(experts), signal);
      this.#sessions.set(key, session);
      session.then(
        (opened) => {
          if (!this.#disposed) this.#opened.add(opened);
        },
        () => this.#sessions.delete(key),
      );
    }
    return session;
  }

  /** @throws EngineError after `dispose` */
  assertOpen(): void {
    if (this.#disposed) throw disposedError();
  }

  /** What each layer that routes has done in passes of all variants, by its index. */
  routerCounts(): ReadonlyMap<number, RouterCounts> {
    const sums = new Map<number, RouterCounts>();
    for (const session of this.#opened)
      for (const counts of session.routedTokens()) {
        const { layer } = counts;
        const sum = sums.get(layer);
        sums.set(
          layer,
          sum
            ? { layer, tokens: plus(sum.tokens, counts.tokens), reads: plus(sum.reads, counts.reads) }
            : counts,
        );
      }
    return sums;
  }

  /** Waits for runs in progress. */
  async dispose(): Promise<void> {
    this.#disposed = true;
    this.#opened.clear();
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const opening of sessions) await opening.then((session) => session.dispose()).catch(() => {});
  }

  async #open(
    variant: GraphVariant,
    experts: ExpertsBackend,
    signal?: AbortSignal,
  ): Promise<RecordingSession> {
    const graph = new Graph(new CheckpointWeights(this.#checkpoint, this.#store));
    const { head, intermediates, routing, visual } = variant;
    const { cacheDtype } = this.#options;
    const target = targetOf(this.#options);
    this.#model.build(graph, { ...target, cacheDtype, experts, head, intermediates, routing, visual });
    return openGraph(graph, this.#store, this.#options, signal);
  }
}

const plus = (a: Float64Array, b: Float64Array) => a.map((n, i) => n + (b[i] as number));
