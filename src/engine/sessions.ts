import type { ExpertsBackend } from '../experts/interface.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import { Graph } from '../graph/graph.ts';
import type { Model } from '../models/architecture.ts';
import type { RecordingSession, WeightStore } from '../runtime/types.ts';
import type { Checkpoint } from '../safetensors/types.ts';
import { CheckpointWeights } from '../weights/checkpoint-weights.ts';
import { disposedError, type EngineOptions, openGraph, targetOf } from './open-graph.ts';
import type { GraphVariant } from './pass.ts';

/** The sessions of a loaded decoder: one a graph variant, opened when first wanted, all over the same weights. */
export class DecoderSessions {
  readonly #model: Model;
  readonly #checkpoint: Checkpoint;
  readonly #store: WeightStore;
  readonly #engine: EngineOptions;
  readonly #sessions = new Map<string, Promise<RecordingSession>>();
  #disposed = false;

  constructor(model: Model, checkpoint: Checkpoint, store: WeightStore, engine: EngineOptions) {
    this.#model = model;
    this.#checkpoint = checkpoint;
    this.#store = store;
    this.#engine = engine;
  }

  /** Built-in backends share a session: the selector tells them apart on each run. */
  get(variant: GraphVariant, experts: string, signal?: AbortSignal): Promise<RecordingSession> {
    this.assertOpen();
    const backend = ExpertsInterface.isBuiltIn(experts) ? '' : experts;
    const key = JSON.stringify([variant.head, variant.intermediates, variant.visual, backend]);
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
    const { head, intermediates, visual } = variant;
    const target = targetOf(this.#engine);
    this.#model.build(graph, { ...target, experts, head, intermediates, visual });
    return openGraph(graph, this.#store, this.#engine, signal);
  }
}
