import { Pacer } from './pacer.ts';

/** Zero crossings of the kernel on either side; what it leaves of aliases is below −80 dB. */
const CROSSINGS = 32;
/** Share of the lower rate's band that passes. */
const PASS = 0.95;

/**
 * A sound at another rate: every sample of the result is a sum over its neighbourhood, weighted by a sinc under Hann's window (Smith,
 * Digital Audio Resampling, ccrma.stanford.edu/~jos/resample).
 */
export async function resample(
  samples: Float32Array,
  from: number,
  to: number,
  signal?: AbortSignal,
): Promise<Float32Array> {
  if (from === to) return samples;
  const pacer = new Pacer(signal);
  const result = new Float32Array(Math.ceil((samples.length * to) / from));
  // Of the sampled frequencies of `from`.
  const cutoff = PASS * Math.min(1, to / from);
  const reach = CROSSINGS / cutoff;
  for (const i of result.keys()) {
    const center = (i * from) / to;
    const first = Math.max(0, Math.ceil(center - reach));
    const last = Math.min(samples.length - 1, Math.floor(center + reach));
    let sum = 0;
    for (let place = first; place <= last; place++)
      sum += (samples[place] as number) * kernel(place - center, cutoff, reach);
    result[i] = sum;
    if (i % 4096 === 0) await pacer.turn();
  }
  return result;
}

function kernel(distance: number, cutoff: number, reach: number): number {
  const x = Math.PI * distance * cutoff;
  const sinc = x === 0 ? 1 : Math.sin(x) / x;
  return cutoff * sinc * (0.5 + 0.5 * Math.cos((Math.PI * distance) / reach));
}
