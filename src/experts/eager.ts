import type { ExpertsBackend } from './interface.ts';
import { moeExperts } from './moe-experts.ts';

/**
 * `eager`: loops over the experts that have tokens, in ascending order, one GEMM each, and adds every expert's share to the
 * output before the next. The reference execution (HF `Qwen2MoeExperts.forward`).
 */
export const eager: ExpertsBackend = moeExperts;
