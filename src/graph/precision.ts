import type { DType } from '../dtype.ts';

/** Attribute `precision` of our own ops. On the CPU float16 computes as float32. */
export const PRECISION = { float32: 0, bfloat16: 1, float16: 0 } as const satisfies Record<DType, number>;
