import type { ExpertsBackend } from '../experts/interface.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import { Graph } from '../graph/graph.ts';
import type { Architecture } from '../models/architecture.ts';
import type { RecordingSession, WeightStore } from '../runtime/types.ts';
import type { Checkpoint } from '../safetensors/types.ts';
import { CheckpointWeights } from '../weights/checkpoint-weights.ts';
import { disposedError, type EngineOptions, openGraph } from './open-graph.ts';
import type { GraphVariant } from './pass.ts';

/** The sessions of a loaded decoder: one a graph variant, opened when first wanted, all over the same weights. */
export class DecoderSessions {
  readonly #architecture: Architecture;
  readonly #config: unknown;
  readonly #checkpoint: Checkpoint;
  readonly #store: WeightStore;
  readonly #engine: EngineOptions;
  readonly #sessions = new Map<string, Promise<RecordingSession>>();
  #disposed = false;

  constructor(
    architecture: Architecture,
    config: unknown,
    checkpoint: Checkpoint,
    store: WeightStore,
    engine: EngineOptions,
  ) {
    this.#architecture = architecture;
    this.#config = config;
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
    const { dtype, weights } = this.#engine;
    const device = weights ? 'cuda' : 'cpu';
    this.#architecture.buildGraph(graph, this.#config, {
      ...{ device, dtype, experts },
      ...{ head, intermediates, visual },
    });
    const session = await openGraph(graph, this.#store, this.#engine, signal);
    if (!weights) this.#store.prefetch(graph.streamed);
    return session;
  }
}
