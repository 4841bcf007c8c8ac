import { Graph } from '../graph/graph.ts';
import type { Grid } from '../media/types.ts';
import type { Architecture, VisionPart } from '../models/architecture.ts';
import type { VisionConfig } from '../models/qwen3_vl_moe/vision.ts';
import { visionPositions } from '../models/qwen3_vl_moe/vision-positions.ts';
import { Tensor } from '../runtime/ort.ts';
import type { Session, WeightStore } from '../runtime/types.ts';
import type { Checkpoint } from '../safetensors/types.ts';
import { CheckpointWeights } from '../weights/checkpoint-weights.ts';
import { disposedError, type EngineOptions, openGraph } from './open-graph.ts';
import type { VisualFeatures } from './sequence.ts';

/** The vision tower of a loaded model. Its session opens, and its weights are first touched, with the first picture. */
export class VisionRuntime {
  readonly config: VisionConfig;
  readonly #architecture: Architecture & { vision: VisionPart<unknown> };
  readonly #fullConfig: unknown;
  readonly #checkpoint: Checkpoint;
  readonly #store: WeightStore;
  readonly #engine: EngineOptions;
  #session: Promise<Session> | undefined;
  #disposed = false;

  constructor(
    architecture: Architecture & { vision: VisionPart<unknown> },
    config: unknown,
    checkpoint: Checkpoint,
    store: WeightStore,
    options: EngineOptions,
  ) {
    this.#architecture = architecture;
    this.#fullConfig = config;
    this.config = architecture.vision.config(config);
    this.#checkpoint = checkpoint;
    this.#store = store;
    this.#engine = options;
  }

  /** Placeholder tokens that a picture or clip of this grid stands for. */
  tokensOf([time, height, width]: Grid): number {
    return (time * height * width) / this.config.spatial_merge_size ** 2;
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
    const { in_channels, temporal_patch_size, patch_size, out_hidden_size } = this.config;
    const values = in_channels * temporal_patch_size * patch_size ** 2;
    const tokens = grids.reduce((sum, grid) => sum + this.tokensOf(grid), 0);
    const layers = this.config.deepstack_visual_indexes;
    const embeds = new Float32Array(tokens * out_hidden_size);
    const deepstack = layers.map(() => new Float32Array(tokens * out_hidden_size));
    let patch = 0;
    let token = 0;
    for (const grid of grids) {
      const patches = grid[0] * grid[1] * grid[2];
      const part = pixels.subarray(patch * values, (patch + patches) * values);
      const outputs = await this.#run(part, grid, values, signal);
      embeds.set(outputs.embeds?.data as Float32Array, token * out_hidden_size);
      for (const [i, target] of deepstack.entries())
        target.set(outputs[`deepstack.${i}`]?.data as Float32Array, token * out_hidden_size);
      patch += patches;
      token += this.tokensOf(grid);
    }
    return { embeds, deepstack };
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#session?.then((session) => session.dispose()).catch(() => {});
  }

  async #run(
    pixels: Float32Array,
    grid: Grid,
    values: number,
    signal?: AbortSignal,
  ): Promise<Record<string, Tensor>> {
    const session = await this.#opened(signal);
    const [frames, height, width] = grid;
    const patches = height * width;
    const feeds = {
      pixel_values: new Tensor('float32', pixels, [frames, patches, values]),
      ...this.#positionFeeds(grid, frames, patches),
    };
    const fetches = Object.fromEntries(session.outputNames.map((name) => [name, null]));
    return session.run(feeds, fetches, signal ? { signal } : {});
  }

  #positionFeeds(grid: Grid, frames: number, patches: number): Record<string, Tensor> {
    const { hidden_size, num_heads, num_position_embeddings, spatial_merge_size } = this.config;
    const headDim = hidden_size / num_heads;
    const positions = visionPositions([grid], {
      spatialMergeSize: spatial_merge_size,
      gridSide: Math.sqrt(num_position_embeddings),
      headDim,
    });
    const total = frames * patches;
    const indices = new BigInt64Array(4 * total);
    const weights = new Float32Array(4 * total);
    for (let i = 0; i < total; i++) {
      for (let corner = 0; corner < 4; corner++) {
        indices[corner * total + i] = BigInt(positions.indices[i * 4 + corner] as number);
        weights[corner * total + i] = positions.weights[i * 4 + corner] as number;
      }
    }
    return {
      position_indices: new Tensor('int64', indices, [4, frames, patches]),
      position_weights: new Tensor('float32', weights, [4, frames, patches, 1]),
      cos: new Tensor('float32', positions.cos, [frames, patches, headDim / 2]),
      sin: new Tensor('float32', positions.sin, [frames, patches, headDim / 2]),
    };
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
    this.#architecture.vision.buildGraph(graph, this.#fullConfig, this.#engine.dtype);
    return openGraph(graph, this.#store, this.#engine, signal);
  }
}
