import type { DType } from '../dtype.ts';

/** Attribute `precision` of our own ops. On the CPU float16 computes as float32. */
export const PRECISION = { float32: 0, bfloat16: 1, float16: 0 } as const satisfies Record<DType, number>;

/**
 * Attributes of our own ops that multiply weights, which say how.
 * @param int8Activations whether activations that meet codes of integers may be rounded to int8
 */
export function computing(dtype: DType, int8Activations = false): Record<string, number> {
  return { precision: PRECISION[dtype], ...(int8Activations && { int8_activations: 1 }) };
}
