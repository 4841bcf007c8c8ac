import { expected, InputError, SwitchyardError } from '../errors.ts';
import { limitsOf } from './limits.ts';
import { Pacer } from './pacer.ts';
import { describeSource, readBytes } from './read-bytes.ts';
import { resample } from './resample.ts';
import type { LoadOptions, RawSound, SoundInput } from './types.ts';
import { readWavFormat, type WavFormat } from './wav-format.ts';

/** Rates of sounds, in samples a second: of telephones, and above those of studios. */
const RATES = { least: 1000, most: 768_000 };
/** Bytes, or samples, that are worked through between two looks at the clock: a few milliseconds. */
const SLICE = 2 ** 20;

/**
 * Loads a sound: WAV files of PCM, floats, A-law, µ-law or ADPCM, of any rate. Channels are averaged. Long ones are worked through piece by
 * piece, between which the event loop turns.
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
  const limits = limitsOf(options.limits);
  const pacer = new Pacer(`preparing ${name}`, options.signal);
  if (isRawSound(input)) {
    await checkRaw(input, limits.maxSeconds, name, pacer);
    return resample(input.samples, input.samplingRate, samplingRate, pacer);
  }
  const source = `${name} (${describeSource(input)})`;
  const bytes = await readBytes(input, source, {
    limits,
    signal: options.signal,
    what: 'a sound is a path, a URL, bytes of a WAV file, or { samples, samplingRate }',
  });
  const format = readWavFormat(bytes, source);
  const blocks = format ? Math.floor(format.data.length / format.block) : 0;
  if (!format || blocks === 0) throw new InputError(`${source} has no samples`);
  checkRate(format.rate, source);
  checkLength(blocks * format.blockSamples, format.rate, limits.maxSeconds, source);
  const samples = await decode(format, source, pacer);
  return resample(samples, format.rate, samplingRate, pacer);
}

function isRawSound(input: unknown): input is RawSound {
  return typeof input === 'object' && input !== null && 'samples' in input;
}

async function checkRaw(
  { samples, samplingRate }: RawSound,
  maxSeconds: number,
  name: string,
  pacer: Pacer,
): Promise<void> {
  if (!(samples instanceof Float32Array))
    throw new InputError(`${name}: ${expected('samples', samples, 'a Float32Array of values from -1 to 1')}`);
  if (samples.length === 0) throw new InputError(`${name} has no samples`);
  checkRate(samplingRate, name);
  checkLength(samples.length, samplingRate, maxSeconds, name);
  for (let first = 0; first < samples.length; first += SLICE) {
    checkSamples(samples.subarray(first, first + SLICE), first, name);
    await pacer.turn();
  }
}

function checkSamples(samples: Float32Array, first: number, source: string): void {
  const place = samples.findIndex((value) => !Number.isFinite(value));
  if (place !== -1)
    throw new InputError(
      expected(`${source}: sample ${first + place}`, samples[place], 'numbers from -1 to 1'),
    );
}

function checkRate(rate: unknown, source: string): void {
  if (typeof rate === 'number' && rate >= RATES.least && rate <= RATES.most) return;
  throw new InputError(
    `${source}: ${expected('samplingRate', rate, `${RATES.least} to ${RATES.most} samples a second`)}`,
  );
}

function checkLength(samples: number, rate: number, maxSeconds: number, source: string): void {
  if (samples <= maxSeconds * rate) return;
  throw new InputError(
    `${source} lasts ${Math.ceil(samples / rate)} seconds, over the limit of ${maxSeconds}. ` +
      'Cut it into pieces, or raise limits.maxSeconds',
  );
}

/** The mean of the channels. */
async function decode(format: WavFormat, source: string, pacer: Pacer): Promise<Float32Array> {
  const { data, block } = format;
  const { decoder } = await import('@audio/decode-wav');
  const decoding = decoder();
  const pieces: Float32Array[] = [];
  const slice = Math.ceil(SLICE / block) * block;
  let length = 0;
  try {
    decoding.decode(plainHeader(format));
    for (let first = 0; first < data.length; first += slice) {
      // A copy: the decoder looks for samples at whole multiples of their size, and Node's buffers share their memory.
      const { channelData } = decoding.decode(new Uint8Array(data.subarray(first, first + slice)));
      const mean = average(channelData);
      checkSamples(mean, length, source);
      pieces.push(mean);
      length += mean.length;
      await pacer.turn();
    }
  } catch (error) {
    if (error instanceof SwitchyardError) throw error;
    throw new InputError(
      `${source}: ${(error as Error).message}. Write it as samples of whole numbers, as with ffmpeg -i FILE -c:a pcm_s16le sound.wav`,
      { cause: error },
    );
  }
  const samples = new Float32Array(length);
  let at = 0;
  for (const piece of pieces) {
    samples.set(piece, at);
    at += piece.length;
  }
  return samples;
}

/** The beginning of a file of nothing but samples, however many, so that the decoder sees the description that was checked. */
function plainHeader({ chunk }: WavFormat): Uint8Array {
  return Buffer.concat([Buffer.from('RIFF\0\0\0\0WAVE'), chunk, Buffer.from('data\0\0\0\0')]);
}

function average(channels: readonly Float32Array[]): Float32Array {
  const [first = new Float32Array(0), ...others] = channels;
  if (others.length === 0) return first;
  const sums = Float64Array.from(first);
  for (const channel of others)
    for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] as number) + (channel[i] as number);
  return Float32Array.from(sums, (sum) => sum / channels.length);
}
