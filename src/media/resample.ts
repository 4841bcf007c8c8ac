import { Pacer } from './pacer.ts';

/** Zero crossings of the kernel on either side; what it leaves of aliases is below −80 dB. */
const CROSSINGS = 32;
/** Share of the lower rate's band that passes. */
const PASS = 0.95;
/** Values of the kernel from one crossing to the next. Straight lines between them are off by 1e-7 at most. */
const STEPS = 2048;
/** Products between two looks at the clock: a fraction of a millisecond. */
const PRODUCTS_PER_TURN = 200_000;

/**
 * A sound at another rate: every sample of the result is a sum over its neighbourhood, weighted by a sinc under Hann's window that is read
 * from a table (Smith, Digital Audio Resampling, ccrma.stanford.edu/~jos/resample). The work is 68 products for each sample of the higher
 * rate, whatever the two are.
 * @throws AbortError
 */
export async function resample(
  samples: Float32Array,
  from: number,
  to: number,
  pacer = new Pacer('resampling'),
): Promise<Float32Array> {
  if (from === to) return samples;
  const result = new Float32Array(Math.ceil((samples.length * to) / from));
  // Of the sampled frequencies of `from`.
  const cutoff = PASS * Math.min(1, to / from);
  const block = Math.max(1, Math.floor((PRODUCTS_PER_TURN * cutoff) / (2 * CROSSINGS)));
  for (let first = 0; first < result.length; first += block) {
    const end = Math.min(result.length, first + block);
    for (let i = first; i < end; i++) result[i] = cutoff * weightedSum(samples, (i * from) / to, cutoff);
    await pacer.turn();
  }
  return result;
}

/** @param center place in `samples` @param cutoff crossings of the kernel from one sample to the next */
function weightedSum(samples: Float32Array, center: number, cutoff: number): number {
  const wing = kernelWing();
  const reach = CROSSINGS / cutoff;
  const last = Math.min(samples.length - 1, Math.floor(center + reach));
  let sum = 0;
  for (let place = Math.max(0, Math.ceil(center - reach)); place <= last; place++) {
    const at = Math.abs(place - center) * cutoff * STEPS;
    const step = Math.floor(at);
    const left = wing[step] as number;
    sum += (samples[place] as number) * (left + (at - step) * ((wing[step + 1] as number) - left));
  }
  return sum;
}

let wing: Float64Array | undefined;

/** One side of the kernel, from its peak to where it ends and on, for rounding. Made when it is first asked for. */
function kernelWing(): Float64Array {
  wing ??= Float64Array.from({ length: CROSSINGS * STEPS + 2 }, (_, i) => {
    const x = (Math.PI * Math.min(i, CROSSINGS * STEPS)) / STEPS;
    return (x === 0 ? 1 : Math.sin(x) / x) * (0.5 + 0.5 * Math.cos(x / CROSSINGS));
  });
  return wing;
}
