import type { SoundValues } from '../media/types.ts';
import type { Model, SoundPart } from '../models/architecture.ts';
import * as io from '../models/io.ts';
import { allocate } from '../runtime/memory.ts';
import type { WeightStore } from '../runtime/types.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';
import type { EngineOptions } from './open-graph.ts';
import { Tower } from './tower.ts';

/** The audio tower of a loaded model. */
export class SoundRuntime {
  readonly #hidden: number;
  readonly #sound: SoundPart;
  readonly #tower: Tower;

  constructor(
    { hiddenSize }: Model,
    sound: SoundPart,
    checkpoint: ModelCheckpoint,
    store: WeightStore,
    options: EngineOptions,
  ) {
    this.#hidden = hiddenSize;
    this.#sound = sound;
    this.#tower = new Tower(sound.buildTower, checkpoint, store, options);
  }

  /**
   * Runs the tower over sounds one by one, and over each in windows that do not see each other.
   * @param frames of each sound
   * @returns what replaces the placeholders' embeddings, fp32 [tokens, hidden]
   */
  async features(
    { data, dims: [, bands, width] }: SoundValues,
    frames: readonly number[],
    signal?: AbortSignal,
  ): Promise<Float32Array> {
    const tokens = frames.reduce((sum, count) => sum + this.#sound.tokensOf(count), 0);
    const embeds = allocate(
      Float32Array,
      tokens * this.#hidden,
      `${tokens} tokens of sound`,
      'Play shorter sounds',
    );
    let token = 0;
    for (const [i, count] of frames.entries()) {
      const sound = data.subarray(i * bands * width, (i + 1) * bands * width);
      for (const feeds of this.#sound.towerFeeds({ data: sound, dims: [bands, width] }, count)) {
        const part = (await this.#tower.run(feeds, signal))(io.towerEmbeds(this.#hidden));
        embeds.set(part, token * this.#hidden);
        token += part.length / this.#hidden;
      }
    }
    return embeds;
  }

  dispose(): Promise<void> {
    return this.#tower.dispose();
  }

  prepare(signal?: AbortSignal): Promise<void> {
    return this.#tower.prepare(signal);
  }
}
