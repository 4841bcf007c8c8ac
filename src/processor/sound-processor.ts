import { InputError } from '../errors.ts';
import { loadSound } from '../media/load-sound.ts';
import { logMel } from '../media/log-mel.ts';
import { Pacer } from '../media/pacer.ts';
import type { LoadOptions, SoundConfig, SoundInput, SoundValues } from '../media/types.ts';
import type { SoundPart } from '../models/architecture.ts';

/** Sounds as a model takes them, named as in transformers. */
export interface ProcessedSounds {
  /** fp32 [sounds, bands, frames], shorter ones filled up with zeros. */
  readonly inputFeatures: SoundValues;
  /** [sounds, frames]; 1 for a frame, 0 for what fills up. */
  readonly featureAttentionMask: number[][];
}

/** Values of the spectrograms of a call: 4 GiB. */
const MOST_VALUES = 2 ** 30;

/**
 * Loads sounds and makes spectrograms of them, each by itself: where transformers fills the samples of a batch up to the longest, the last
 * frames of the shorter ones come out a little different there.
 * @throws InputError naming the sound, AbortError
 */
export async function processSounds(
  inputs: readonly SoundInput[],
  config: SoundConfig,
  options: LoadOptions,
): Promise<ProcessedSounds> {
  const spectrograms = [];
  for (const [i, input] of inputs.entries()) {
    const name = inputs.length === 1 ? 'sound' : `sound ${i}`;
    const samples = await loadSound(input, config.samplingRate, options, name);
    const least = Math.max(config.hop, Math.floor(config.window / 2) + 1);
    if (samples.length < least)
      throw new InputError(
        `${name} has ${samples.length} samples at ${config.samplingRate} a second; a spectrogram takes ${least} at least`,
      );
    spectrograms.push(await logMel(samples, config, new Pacer(`preparing ${name}`, options.signal)));
  }
  const frames = Math.max(...spectrograms.map(({ dims }) => dims[1]));
  const values = spectrograms.length * config.bands * frames;
  if (values > MOST_VALUES)
    throw new InputError(
      `the ${spectrograms.length} sounds, each filled up to the ${frames} frames of the longest, are ${values} values; ` +
        `at most ${MOST_VALUES} are taken at once. Prepare long sounds by themselves`,
    );
  const data = new Float32Array(values);
  for (const [i, spectrogram] of spectrograms.entries()) {
    const own = spectrogram.dims[1];
    for (let band = 0; band < config.bands; band++)
      data.set(spectrogram.data.subarray(band * own, (band + 1) * own), (i * config.bands + band) * frames);
  }
  return {
    inputFeatures: { data, dims: [spectrograms.length, config.bands, frames] },
    featureAttentionMask: spectrograms.map(({ dims: [, own] }) =>
      Array.from({ length: frames }, (_, frame) => (frame < own ? 1 : 0)),
    ),
  };
}

/** Tokens of each sound, as the model counts them. */
export function soundTokenCounts(
  { featureAttentionMask }: ProcessedSounds,
  { tokensOf }: Pick<SoundPart, 'tokensOf'>,
): number[] {
  return featureAttentionMask.map((mask) => tokensOf(mask.reduce((a, b) => a + b, 0)));
}
