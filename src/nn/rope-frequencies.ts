/** Rotary position embedding, reduced to what the computation needs. */
export interface Rope {
  /** Rotation per position of each pair, fp32, [head_dim / 2]. */
  readonly inverseFrequencies: Float32Array;
  /** Factor on cos and sin; 1 except for yarn and longrope. */
  readonly attentionScaling: number;
  /** How the frequencies change with the length of a sequence; without it they do not. */
  readonly byLength?: LongRope | DynamicRope;
}

/** Other frequencies for sequences of more than `original` positions. */
export interface LongRope {
  readonly kind: 'longrope';
  readonly original: number;
  readonly inverseFrequencies: Float32Array;
}

/** Frequencies times (factor · positions / original − (factor − 1)) ^ exponents, beyond `original` positions. */
export interface DynamicRope {
  readonly kind: 'dynamic';
  readonly original: number;
  readonly factor: number;
  /** Of each pair, fp32, [head_dim / 2]. */
  readonly exponents: Float32Array;
}

export const ROPE_TYPES = [
  'default',
  'linear',
  'dynamic',
  'yarn',
  'longrope',
  'llama3',
  'proportional',
] as const;
export type RopeType = (typeof ROPE_TYPES)[number];

/** `rope_parameters` of a config, checked and complete for its type. */
export interface RopeParameters {
  readonly type: RopeType;
  readonly theta: number;
  readonly factor: number;
  /** Positions the model was trained on before its context was extended. */
  readonly original: number;
  readonly attentionFactor?: number | undefined;
  readonly mscale?: number | undefined;
  readonly mscaleAllDim?: number | undefined;
  readonly betaFast?: number | undefined;
  readonly betaSlow?: number | undefined;
  readonly truncate?: boolean | undefined;
  readonly lowFreqFactor?: number | undefined;
  readonly highFreqFactor?: number | undefined;
  readonly shortFactor?: readonly number[] | undefined;
  readonly longFactor?: readonly number[] | undefined;
  readonly partialRotaryFactor?: number | undefined;
}

/**
 * Frequencies of a rope variant over `headDim` dimensions (HF `modeling_rope_utils.py`; yarn: Peng et al. 2023,
 * arXiv:2309.00071; longrope: Ding et al. 2024, arXiv:2402.13753; llama3: Llama 3.1).
 */
export function computeRope(parameters: RopeParameters, headDim: number): Rope {
  const { theta, factor, original } = parameters;
  // HF computes the frequencies in fp32; rounding after each step keeps ours bit-equal or one unit off.
  const base = Float32Array.from(
    { length: headDim / 2 },
    (_, i) => 1 / Math.fround(theta ** Math.fround((2 * i) / headDim)),
  );
  const plain = { inverseFrequencies: base, attentionScaling: 1 };
  switch (parameters.type) {
    case 'default':
      return plain;
    case 'linear':
      return { ...plain, inverseFrequencies: base.map((f) => f / factor) };
    case 'dynamic': {
      const exponents = Float32Array.from(base, (_, i) => (i === 0 ? 0 : (-2 * i) / (headDim - 2)));
      return { ...plain, byLength: { kind: 'dynamic', original, factor, exponents } };
    }
    case 'yarn':
      return {
        inverseFrequencies: yarnFrequencies(parameters, base, headDim),
        attentionScaling: yarnScaling(parameters),
      };
    case 'longrope': {
      const { shortFactor = [], longFactor = [] } = parameters;
      const divided = (by: readonly number[]) => base.map((f, i) => f / (by[i] as number));
      return {
        inverseFrequencies: divided(shortFactor),
        attentionScaling: longScaling(parameters),
        byLength: { kind: 'longrope', original, inverseFrequencies: divided(longFactor) },
      };
    }
    case 'llama3':
      return { ...plain, inverseFrequencies: base.map((f) => llamaFrequency(f, parameters)) };
    case 'proportional': {
      const turning = Math.floor(((parameters.partialRotaryFactor ?? 1) * headDim) / 2);
      return { ...plain, inverseFrequencies: base.map((f, i) => (i < turning ? f / factor : 0)) };
    }
  }
}

/** Interpolates slow rotations by `factor`, keeps fast ones, and blends linearly between the two. */
function yarnFrequencies(parameters: RopeParameters, base: Float32Array, headDim: number): Float32Array {
  const { factor, theta, original, truncate = true } = parameters;
  const dimensionOf = (rotations: number) =>
    (headDim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  let low = dimensionOf(parameters.betaFast || 32);
  let high = dimensionOf(parameters.betaSlow || 1);
  if (truncate) [low, high] = [Math.floor(low), Math.ceil(high)];
  low = Math.max(low, 0);
  high = Math.min(high, headDim - 1);
  if (low === high) high += 0.001;
  return base.map((frequency, i) => {
    const interpolated = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return (frequency / factor) * interpolated + frequency * (1 - interpolated);
  });
}

function yarnScaling({ factor, attentionFactor, mscale, mscaleAllDim }: RopeParameters): number {
  if (attentionFactor !== undefined) return attentionFactor;
  const scale = (m: number) => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1);
  return mscale && mscaleAllDim ? scale(mscale) / scale(mscaleAllDim) : scale(1);
}

function longScaling({ factor, original, attentionFactor }: RopeParameters): number {
  if (attentionFactor !== undefined) return attentionFactor;
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
}

/** Divides slow rotations by `factor`, keeps fast ones, and blends between the two by wavelength. */
function llamaFrequency(frequency: number, parameters: RopeParameters): number {
  const { factor, original, lowFreqFactor = 1, highFreqFactor = 4 } = parameters;
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < original / highFreqFactor) return frequency;
  if (wavelength > original / lowFreqFactor) return frequency / factor;
  const smooth = (original / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}
