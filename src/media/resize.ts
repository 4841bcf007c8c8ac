import { Pacer } from './pacer.ts';
import type { RgbImage, Size } from './types.ts';

const CHANNELS = 3;
/** Taps of the cubic kernel reach two samples to each side. */
const CUBIC_SUPPORT = 2;
/** Weights are stored in 16 bits, as in torch's 8-bit kernel; more precision bits would overflow them. */
const WEIGHT_LIMIT = 2 ** 15;
const MAX_PRECISION = 22;
/** Multiply-adds between two looks at the clock: a fraction of a millisecond once compiled. */
const WORK_PER_TURN = 200_000;

/** For each output sample the first input sample that counts, how many count, and their fixed-point weights. */
interface Taps {
  readonly start: Int32Array;
  readonly count: Int32Array;
  /** `[outputs, width]`, scaled by 2^precision. */
  readonly weights: Int16Array;
  readonly width: number;
  readonly precision: number;
}

/**
 * Resizes with the antialiased bicubic filter, first along rows, then along columns, rounding to 8 bits after each.
 * Bit for bit the result of `torch.nn.functional.interpolate(uint8, mode="bicubic", antialias=True)`, which the
 * default image processor of transformers calls; Pillow's differs by one 8-bit step in rare places.
 * Gives way to the event loop between rows.
 *
 * @returns a new image, or `image` itself when it has the size already
 */
export async function resizeBicubic(
  image: RgbImage,
  size: Size,
  pacer = new Pacer('resizing'),
): Promise<RgbImage> {
  const { width, height } = image;
  let data = image.data;
  if (size.width !== width) data = await resizeRows(data, width, height, size.width, pacer);
  if (size.height !== height) data = await resizeColumns(data, size.width, height, size.height, pacer);
  return data === image.data ? image : { data, width: size.width, height: size.height };
}

async function resizeRows(
  source: Uint8Array,
  width: number,
  height: number,
  newWidth: number,
  pacer: Pacer,
): Promise<Uint8Array> {
  const taps = cubicTaps(width, newWidth);
  // Clamps what it stores to 0…255.
  const target = new Uint8ClampedArray(newWidth * height * CHANNELS);
  const block = rowsPerTurn(newWidth * taps.width);
  for (let first = 0; first < height; first += block) {
    const end = Math.min(height, first + block);
    for (let y = first; y < end; y++) {
      filterRow(source, y * width * CHANNELS, target, y * newWidth * CHANNELS, taps);
    }
    await pacer.turn();
  }
  return new Uint8Array(target.buffer);
}

function filterRow(
  source: Uint8Array,
  from: number,
  target: Uint8ClampedArray,
  to: number,
  taps: Taps,
): void {
  const { start, count, weights, width, precision } = taps;
  const half = 1 << (precision - 1);
  for (let x = 0, out = to; x < start.length; x++, out += CHANNELS) {
    let red = half;
    let green = half;
    let blue = half;
    let at = from + (start[x] as number) * CHANNELS;
    const end = x * width + (count[x] as number);
    for (let w = x * width; w < end; w++, at += CHANNELS) {
      const weight = weights[w] as number;
      red = (red + weight * (source[at] as number)) | 0;
      green = (green + weight * (source[at + 1] as number)) | 0;
      blue = (blue + weight * (source[at + 2] as number)) | 0;
    }
    target[out] = red >> precision;
    target[out + 1] = green >> precision;
    target[out + 2] = blue >> precision;
  }
}

async function resizeColumns(
  source: Uint8Array,
  width: number,
  height: number,
  newHeight: number,
  pacer: Pacer,
): Promise<Uint8Array> {
  const taps = cubicTaps(height, newHeight);
  const stride = width * CHANNELS;
  // Clamps what it stores to 0…255.
  const target = new Uint8ClampedArray(stride * newHeight);
  const sums = new Int32Array(stride);
  const block = rowsPerTurn(stride * taps.width);
  for (let first = 0; first < newHeight; first += block) {
    const end = Math.min(newHeight, first + block);
    for (let y = first; y < end; y++) filterColumns(source, stride, sums, target, y, taps);
    await pacer.turn();
  }
  return new Uint8Array(target.buffer);
}

/** One output row: sums whole input rows, so that memory is read in order. */
function filterColumns(
  source: Uint8Array,
  stride: number,
  sums: Int32Array,
  target: Uint8ClampedArray,
  y: number,
  { start, count, weights, width, precision }: Taps,
): void {
  sums.fill(1 << (precision - 1));
  for (let tap = 0; tap < (count[y] as number); tap++) {
    const weight = weights[y * width + tap] as number;
    const from = ((start[y] as number) + tap) * stride;
    for (let i = 0; i < stride; i++) {
      sums[i] = ((sums[i] as number) + weight * (source[from + i] as number)) | 0;
    }
  }
  const to = y * stride;
  for (let i = 0; i < stride; i++) target[to + i] = (sums[i] as number) >> precision;
}

function rowsPerTurn(workPerRow: number): number {
  return Math.max(1, Math.floor(WORK_PER_TURN / workPerRow));
}

function cubicTaps(inputSize: number, outputSize: number): Taps {
  const scale = inputSize / outputSize;
  // Shrinking widens the kernel so that every input sample counts: that is the antialiasing.
  const stretch = Math.max(1, scale);
  const support = CUBIC_SUPPORT * stretch;
  const width = Math.ceil(support) * 2 + 1;
  const start = new Int32Array(outputSize);
  const count = new Int32Array(outputSize);
  const exact = new Float64Array(outputSize * width);
  let largest = 0;
  for (let i = 0; i < outputSize; i++) {
    const center = scale * (i + 0.5);
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const taps = Math.min(Math.trunc(center + support + 0.5), inputSize) - first;
    start[i] = first;
    count[i] = taps;
    let total = 0;
    for (let j = 0; j < taps; j++) {
      const weight = cubic((j + first - center + 0.5) / stretch);
      exact[i * width + j] = weight;
      total += weight;
    }
    for (let j = 0; j < taps; j++) {
      const weight = (exact[i * width + j] as number) / total;
      exact[i * width + j] = weight;
      largest = Math.max(largest, weight);
    }
  }
  const precision = weightPrecision(largest);
  return { start, count, weights: toFixedPoint(exact, precision), width, precision };
}

/** The most fractional bits with which the largest weight still fits 16 bits. */
function weightPrecision(largest: number): number {
  let precision = 0;
  while (precision < MAX_PRECISION && Math.trunc(0.5 + largest * 2 ** (precision + 1)) < WEIGHT_LIMIT)
    precision++;
  return precision;
}

function toFixedPoint(weights: Float64Array, precision: number): Int16Array {
  const scale = 2 ** precision;
  return Int16Array.from(weights, (weight) => Math.trunc(weight * scale + (weight < 0 ? -0.5 : 0.5)));
}

/** Keys' cubic convolution kernel with a = -1/2, which Pillow and torch use when antialiasing. */
function cubic(x: number): number {
  const a = -0.5;
  const t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
  return 0;
}
