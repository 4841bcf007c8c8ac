import { Graph } from '../graph/graph.ts';
import type { Grid } from '../media/types.ts';
import type { Model } from '../models/architecture.ts';
import * as io from '../models/io.ts';
import { allocate } from '../runtime/memory.ts';
import { Tensor } from '../runtime/ort.ts';
import type { Session, WeightStore } from '../runtime/types.ts';
import { CheckpointWeights } from '../weights/checkpoint-weights.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';
import { disposedError, type EngineOptions, openGraph, targetOf } from './open-graph.ts';
import type { VisualFeatures } from './sequence.ts';

/** A model that sees. */
export type SeeingModel = Model & Required<Pick<Model, 'media'>>;

export function sees(model: Model): model is SeeingModel {
  return model.media !== undefined;
}

/** The vision tower of a loaded model. Its session opens, and its weights are first touched, with the first picture. */
export class VisionRuntime {
  readonly #model: SeeingModel;
  readonly #checkpoint: ModelCheckpoint;
  readonly #store: WeightStore;
  readonly #engine: EngineOptions;
  #session: Promise<Session> | undefined;
  #disposed = false;

  constructor(model: SeeingModel, checkpoint: ModelCheckpoint, store: WeightStore, options: EngineOptions) {
    this.#model = model;
    this.#checkpoint = checkpoint;
    this.#store = store;
    this.#engine = options;
  }

  /**
   * Runs the tower over pictures one by one, so that memory is bounded by the largest.
   * @param pixels fp32, patches of all pictures one after the other, as the processor lays them
   */
  async features(
    pixels: Float32Array,
    grids: readonly Grid[],
    signal?: AbortSignal,
  ): Promise<VisualFeatures> {
    const { hiddenSize, media } = this.#model;
    const tokens = grids.reduce((sum, grid) => sum + media.tokensOf(grid), 0);
    const room = () =>
      allocate(
        Float32Array,
        tokens * hiddenSize,
        `${tokens} tokens of pictures`,
        'Show fewer pictures at a time',
      );
    const embeds = room();
    const deepstack = Array.from({ length: media.deepstackLayers }, room);
    let patch = 0;
    let token = 0;
    for (const grid of grids) {
      const patches = grid[0] * grid[1] * grid[2];
      const part = pixels.subarray(patch * media.patchValues, (patch + patches) * media.patchValues);
      const outputs = await this.#run(part, grid, signal);
      const values = ({ name }: io.Port) => outputs[name]?.data as Float32Array;
      embeds.set(values(io.towerEmbeds(hiddenSize)), token * hiddenSize);
      for (const [i, target] of deepstack.entries())
        target.set(values(io.towerDeepstack(i, hiddenSize)), token * hiddenSize);
      patch += patches;
      token += media.tokensOf(grid);
    }
    return { embeds, deepstack };
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#session?.then((session) => session.dispose()).catch(() => {});
  }

  async #run(pixels: Float32Array, grid: Grid, signal?: AbortSignal): Promise<Record<string, Tensor>> {
    const session = await this.#opened(signal);
    const inputs = Object.entries(this.#model.media.towerFeeds(pixels, grid));
    const feeds = inputs.map(([name, { dtype, data, dims }]) => [name, new Tensor(dtype, data, dims)]);
    const fetches = Object.fromEntries(session.outputNames.map((name) => [name, null]));
    return session.run(Object.fromEntries(feeds), fetches, signal ? { signal } : {});
  }

  /** Opens the session ahead of the first picture, so that its weights count where memory is bounded. */
  async prepare(signal?: AbortSignal): Promise<void> {
    await this.#opened(signal);
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
    this.#model.media.buildTower(graph, targetOf(this.#engine));
    return openGraph(graph, this.#store, this.#engine, signal);
  }
}
