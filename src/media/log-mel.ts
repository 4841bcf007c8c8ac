import { Pacer } from './pacer.ts';
import type { SoundConfig, SoundFeatures } from './types.ts';

const LEAST_POWER = 1e-10;
/** Decades below the loudest value that are kept. */
const RANGE = 8;

/**
 * The log-mel spectrogram of a sound, scaled as Whisper's: powers of a short-time Fourier transform in bands, their logarithms within 8
 * decades of the largest (Radford et al. 2022, arXiv:2212.04356; HF `WhisperFeatureExtractor`).
 * @param samples from −1 to 1, at the config's rate; more than half a window
 */
export async function logMel(
  samples: Float32Array,
  config: SoundConfig,
  pacer = new Pacer('making a spectrogram'),
): Promise<SoundFeatures> {
  const { bands, hop } = config;
  const frames = Math.floor(samples.length / hop);
  const transform = new Transform(config.window);
  const filters = melFilters(config);
  const data = new Float32Array(bands * frames);
  let largest = -Infinity;
  for (let frame = 0; frame < frames; frame++) {
    const powers = transform.powers(samples, frame * hop);
    for (const [band, { first, weights }] of filters.entries()) {
      let power = 0;
      for (const [i, weight] of weights.entries()) power += weight * (powers[first + i] as number);
      const value = Math.log10(Math.max(power, LEAST_POWER));
      data[band * frames + frame] = value;
      largest = Math.max(largest, value);
    }
    await pacer.turn();
  }
  for (let band = 0; band < bands; band++) {
    const row = data.subarray(band * frames, (band + 1) * frames);
    for (let i = 0; i < frames; i++) row[i] = (Math.max(row[i] as number, largest - RANGE) + 4) / 4;
    await pacer.turn();
  }
  return { data, dims: [bands, frames] };
}

/** Powers of the frequencies of one frame, in double precision. */
class Transform {
  readonly #size: number;
  readonly #window: Float64Array;
  readonly #cos: Float64Array;
  readonly #sin: Float64Array;
  readonly #frame: Float64Array;
  readonly #powers: Float64Array;

  constructor(size: number) {
    this.#size = size;
    const angles = Float64Array.from({ length: size }, (_, i) => (2 * Math.PI * i) / size);
    this.#cos = angles.map(Math.cos);
    this.#sin = angles.map(Math.sin);
    // Hann's, periodic.
    this.#window = this.#cos.map((cos) => 0.5 - 0.5 * cos);
    this.#frame = new Float64Array(size);
    this.#powers = new Float64Array(Math.floor(size / 2) + 1);
  }

  /** @param center the sample in the middle of the frame; beyond its ends the sound is mirrored */
  powers(samples: Float32Array, center: number): Float64Array {
    const size = this.#size;
    const last = samples.length - 1;
    const frame = this.#frame;
    for (let i = 0; i < size; i++) {
      const place = Math.abs(center - Math.floor(size / 2) + i);
      const sample = samples[place <= last ? place : 2 * last - place] as number;
      frame[i] = sample * (this.#window[i] as number);
    }
    // Samples i and size − i meet the same cosine, and sines of opposite sign.
    const pairs = Math.ceil(size / 2) - 1;
    for (const k of this.#powers.keys()) {
      let real = frame[0] as number;
      if (size % 2 === 0) real += (k % 2 === 0 ? 1 : -1) * (frame[size / 2] as number);
      let imaginary = 0;
      for (let i = 1, angle = k; i <= pairs; i++, angle = (angle + k) % size) {
        const [a, b] = [frame[i] as number, frame[size - i] as number];
        real += (a + b) * (this.#cos[angle] as number);
        imaginary += (a - b) * (this.#sin[angle] as number);
      }
      this.#powers[k] = real * real + imaginary * imaginary;
    }
    return this.#powers;
  }
}

/** What a band takes of neighbouring frequencies. */
interface MelFilter {
  readonly first: number;
  readonly weights: readonly number[];
}

const MOST_HERTZ = 8000;

/** Triangles of equal area, evenly spaced on Slaney's mel scale (HF `mel_filter_bank`). */
function melFilters({ bands, window, samplingRate }: SoundConfig): MelFilter[] {
  const top = hertzToMel(MOST_HERTZ);
  const edges = Array.from({ length: bands + 2 }, (_, i) => melToHertz((top * i) / (bands + 1)));
  const bins = Math.floor(window / 2) + 1;
  const frequency = (bin: number) => ((samplingRate / 2) * bin) / (bins - 1);
  return Array.from({ length: bands }, (_, band) => {
    const [left, peak, right] = edges.slice(band, band + 3) as [number, number, number];
    const weight = (bin: number) => {
      const rising = (frequency(bin) - left) / (peak - left);
      const falling = (right - frequency(bin)) / (right - peak);
      return (Math.max(0, Math.min(rising, falling)) * 2) / (right - left);
    };
    const all = Array.from({ length: bins }, (_, bin) => weight(bin));
    const first = Math.max(
      0,
      all.findIndex((value) => value > 0),
    );
    const end = all.findLastIndex((value) => value > 0) + 1;
    return { first, weights: all.slice(first, end) };
  });
}

/** Below 1000 Hz the scale is linear, above logarithmic. */
const LINEAR_HERTZ = 1000;
const LINEAR_MELS = 15;
const MELS_PER_HERTZ = 3 / 200;
const LOG_STEP = 27 / Math.log(6.4);

function hertzToMel(hertz: number): number {
  return hertz < LINEAR_HERTZ
    ? hertz * MELS_PER_HERTZ
    : LINEAR_MELS + Math.log(hertz / LINEAR_HERTZ) * LOG_STEP;
}

function melToHertz(mel: number): number {
  return mel < LINEAR_MELS ? mel / MELS_PER_HERTZ : LINEAR_HERTZ * Math.exp((mel - LINEAR_MELS) / LOG_STEP);
}
