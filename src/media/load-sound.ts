import type { AudioData } from '@audio/decode-wav';
import { expected, InputError } from '../errors.ts';
import { describeSource, readBytes } from './read-bytes.ts';
import { resample } from './resample.ts';
import { DEFAULT_LIMITS, type LoadOptions, type RawSound, type SoundInput } from './types.ts';
import { checkWavFormat } from './wav-format.ts';

/** Rates of sounds, in samples a second: of telephones, and above those of studios. */
const RATES = { least: 1000, most: 768_000 };

/**
 * Loads a sound: WAV files of PCM, floats, A-law, µ-law or ADPCM, of any rate. Channels are averaged.
 * @param samplingRate samples a second of the result
 * @param name what to call the sound in messages, such as `sound 2`
 * @returns samples from −1 to 1
 * @throws InputError naming the source: not found, not WAV, damaged, over the limits, without samples, with one that is no number
 * @throws AbortError
 */
export async function loadSound(
  input: SoundInput,
  samplingRate: number,
  options: LoadOptions = {},
  name = 'sound',
): Promise<Float32Array> {
  if (isRawSound(input)) {
    checkRaw(input, name);
    return resample(input.samples, input.samplingRate, samplingRate, options.signal);
  }
  const source = `${name} (${describeSource(input)})`;
  const bytes = await readBytes(input, source, {
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    signal: options.signal,
    what: 'a sound is a path, a URL, bytes of a WAV file, or { samples, samplingRate }',
  });
  const { channelData, sampleRate } = await decode(bytes, source);
  const samples = average(channelData, source);
  checkSamples(samples, source);
  checkRate(sampleRate, source);
  return resample(samples, sampleRate, samplingRate, options.signal);
}

function isRawSound(input: unknown): input is RawSound {
  return typeof input === 'object' && input !== null && 'samples' in input;
}

function checkRaw({ samples, samplingRate }: RawSound, name: string): void {
  if (!(samples instanceof Float32Array))
    throw new InputError(`${name}: ${expected('samples', samples, 'a Float32Array of values from -1 to 1')}`);
  if (samples.length === 0) throw new InputError(`${name} has no samples`);
  checkSamples(samples, name);
  checkRate(samplingRate, name);
}

function checkSamples(samples: Float32Array, source: string): void {
  const place = samples.findIndex((value) => !Number.isFinite(value));
  if (place !== -1)
    throw new InputError(`${source}: sample ${place} is ${samples[place]}; expected numbers from -1 to 1`);
}

function checkRate(rate: unknown, source: string): void {
  if (typeof rate === 'number' && rate >= RATES.least && rate <= RATES.most) return;
  throw new InputError(
    `${source}: ${expected('samplingRate', rate, `${RATES.least} to ${RATES.most} samples a second`)}`,
  );
}

async function decode(bytes: Uint8Array, source: string): Promise<AudioData> {
  checkWavFormat(bytes, source);
  const { default: decodeWav } = await import('@audio/decode-wav');
  try {
    // A copy: the decoder looks for samples at whole multiples of their size, and Node's buffers share their memory.
    return decodeWav(new Uint8Array(bytes));
  } catch (error) {
    throw new InputError(
      `${source}: ${(error as Error).message}. Sound is read from WAV files; convert others, as with ffmpeg -i FILE sound.wav`,
      { cause: error },
    );
  }
}

function average(channels: readonly Float32Array[], source: string): Float32Array {
  const [first] = channels;
  if (!first || first.length === 0) throw new InputError(`${source} has no samples`);
  if (channels.length === 1) return first;
  return first.map(
    (_, i) => channels.reduce((sum, channel) => sum + (channel[i] as number), 0) / channels.length,
  );
}
