import type { SoundFeatures } from '../../media/types.ts';
import { Scope } from '../../nn/scope.ts';
import type { SoundPart } from '../architecture.ts';
import type { Feed } from '../io.ts';
import { type AudioConfig, tokensOfChunk } from './audio-config.ts';
import { audioPorts, buildAudioTower } from './audio-tower.ts';

/** What a model with the audio tower of Qwen3-Omni has besides its decoder. @param tower prefix of the tower's tensors */
export function soundPart(config: AudioConfig, tower: string): SoundPart {
  const chunk = 2 * config.n_window;
  // HF `_get_feat_extract_output_lengths`, which has chunks of 100 frames, as those of real checkpoints are.
  const tokensOf = (frames: number) =>
    Math.floor(frames / chunk) * tokensOfChunk(chunk) + tokensOfChunk(frames % chunk);
  return {
    bands: config.num_mel_bins,
    tokensOf,
    buildTower: (graph, target) => buildAudioTower(new Scope(graph, target, tower), config),
    *towerFeeds(features, frames) {
      // Chunks that see each other.
      const window = Math.floor(config.n_window_infer / chunk) * chunk;
      for (let first = 0; first < frames; first += window)
        yield feeds(features, first, Math.min(window, frames - first), chunk, config);
    },
  };

  function feeds(
    { data, dims: [bands, width] }: SoundFeatures,
    first: number,
    frames: number,
    chunkFrames: number,
    { num_mel_bins }: AudioConfig,
  ): Record<string, Feed> {
    const chunks = Math.ceil(frames / chunkFrames);
    // A sound that is shorter than a chunk is not filled up, whatever follows in its window: HF fills up to the longest chunk.
    const length = first === 0 ? Math.min(chunkFrames, frames) : chunkFrames;
    const laid = new Float32Array(chunks * bands * length);
    for (let chunkIndex = 0; chunkIndex < chunks; chunkIndex++)
      for (let band = 0; band < bands; band++) {
        const from = band * width + first + chunkIndex * chunkFrames;
        const count = Math.min(length, frames - chunkIndex * chunkFrames);
        laid.set(data.subarray(from, from + count), (chunkIndex * num_mel_bins + band) * length);
      }
    const ports = audioPorts(config);
    const count = (tokens: number): Feed => ({
      dtype: 'int64',
      data: BigInt64Array.of(BigInt(tokens)),
      dims: [1],
    });
    return {
      [ports.features.name]: { dtype: 'float32', data: laid, dims: [chunks, bands, length] },
      [ports.tokens.name]: count(tokensOf(frames)),
      [ports.chunkTokens.name]: count(tokensOfChunk(length)),
    };
  }
}
