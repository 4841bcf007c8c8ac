import type { Grid } from '../media/types.ts';
import type { Model } from '../models/architecture.ts';
import * as io from '../models/io.ts';
import { allocate } from '../runtime/memory.ts';
import type { WeightStore } from '../runtime/types.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';
import type { EngineOptions } from './open-graph.ts';
import type { VisualFeatures } from './sequence.ts';
import { Tower } from './tower.ts';

/** A model that sees. */
export type SeeingModel = Model & Required<Pick<Model, 'media'>>;

export function sees(model: Model): model is SeeingModel {
  return model.media !== undefined;
}

/** The vision tower of a loaded model. */
export class VisionRuntime {
  readonly #model: SeeingModel;
  readonly #tower: Tower;

  constructor(model: SeeingModel, checkpoint: ModelCheckpoint, store: WeightStore, options: EngineOptions) {
    this.#model = model;
    this.#tower = new Tower(model.media.buildTower, checkpoint, store, options);
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
      const values = await this.#tower.run(media.towerFeeds(part, grid), signal);
      embeds.set(values(io.towerEmbeds(hiddenSize)), token * hiddenSize);
      for (const [i, target] of deepstack.entries())
        target.set(values(io.towerDeepstack(i, hiddenSize)), token * hiddenSize);
      patch += patches;
      token += media.tokensOf(grid);
    }
    return { embeds, deepstack };
  }

  dispose(): Promise<void> {
    return this.#tower.dispose();
  }

  /** Opens the session ahead of the first picture, so that its weights count where memory is bounded. */
  prepare(signal?: AbortSignal): Promise<void> {
    return this.#tower.prepare(signal);
  }
}
