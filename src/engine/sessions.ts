import type { ExpertsBackend } from '../experts/interface.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import { Graph } from '../graph/graph.ts';
import type { Model } from '../models/architecture.ts';
import type { Variant } from '../nn/scope.ts';
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
      session.catch(() => this.#sessions.delete(key));
    }
    return session;
  }

  /** @throws EngineError after `dispose` */
  assertOpen(): void {
    if (this.#disposed) throw disposedError();
  }

  /** How many tokens each layer that routes has sent to each expert, in passes of all variants: [layers][experts]. */
  async routedTokens(): Promise<ReadonlyMap<number, Float64Array>> {
    const sums = new Map<number, Float64Array>();
    for (const opening of this.#sessions.values()) {
      const session = await opening.catch(() => undefined);
      for (const { layer, tokens } of session?.routedTokens() ?? []) {
        const sum = sums.get(layer) ?? new Float64Array(tokens.length);
        for (const [expert, count] of tokens.entries()) sum[expert] = (sum[expert] ?? 0) + count;
        sums.set(layer, sum);
      }
    }
    return sums;
  }

  /** Waits for runs in progress. */
  async dispose(): Promise<void> {
    this.#disposed = true;
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
