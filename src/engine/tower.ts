import { Graph } from '../graph/graph.ts';
import type { Feed } from '../models/io.ts';
import type { Target } from '../nn/scope.ts';
import { Tensor } from '../runtime/ort.ts';
import type { Session, WeightStore } from '../runtime/types.ts';
import { CheckpointWeights } from '../weights/checkpoint-weights.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';
import { disposedError, type EngineOptions, openGraph, targetOf } from './open-graph.ts';

/** An encoder beside the decoder of a loaded model. Its session opens, and its weights are first touched, with the first input. */
export class Tower {
  readonly #build: (graph: Graph, target: Target) => void;
  readonly #checkpoint: ModelCheckpoint;
  readonly #store: WeightStore;
  readonly #engine: EngineOptions;
  #session: Promise<Session> | undefined;
  #disposed = false;

  constructor(
    build: (graph: Graph, target: Target) => void,
    checkpoint: ModelCheckpoint,
    store: WeightStore,
    options: EngineOptions,
  ) {
    this.#build = build;
    this.#checkpoint = checkpoint;
    this.#store = store;
    this.#engine = options;
  }

  /** @returns the values of each output, by its name */
  async run(
    inputs: Readonly<Record<string, Feed>>,
    signal?: AbortSignal,
  ): Promise<(output: { readonly name: string }) => Float32Array> {
    const session = await this.#opened(signal);
    const feeds = Object.entries(inputs).map(([name, { dtype, data, dims }]) => [
      name,
      new Tensor(dtype, data, dims),
    ]);
    const fetches = Object.fromEntries(session.outputNames.map((name) => [name, null]));
    const outputs = await session.run(Object.fromEntries(feeds), fetches, signal ? { signal } : {});
    return ({ name }) => outputs[name]?.data as Float32Array;
  }

  /** Opens the session ahead of the first input, so that its weights count where memory is bounded. */
  async prepare(signal?: AbortSignal): Promise<void> {
    await this.#opened(signal);
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#session?.then((session) => session.dispose()).catch(() => {});
  }

  #opened(signal?: AbortSignal): Promise<Session> {
    if (this.#disposed) throw disposedError();
    if (this.#session === undefined) {
      this.#session = this.#open(signal);
      this.#session.catch(() => {
        this.#session = undefined;
      });
    }
    return this.#session;
  }

  #open(signal?: AbortSignal): Promise<Session> {
    const graph = new Graph(new CheckpointWeights(this.#checkpoint, this.#store));
    this.#build(graph, targetOf(this.#engine));
    return openGraph(graph, this.#store, this.#engine, signal);
  }
}
