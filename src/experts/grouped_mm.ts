import type { ExpertsBackend } from './interface.ts';
import { moeExperts } from './moe-experts.ts';

/**
 * `grouped_mm`: sorts the token–expert pairs by expert, multiplies each expert's group in one grouped GEMM, and sums once
 * over the k choices. The default (HF `integrations/moe.py`, `grouped_mm_experts_forward`).
 */
export const groupedMm: ExpertsBackend = moeExperts;
