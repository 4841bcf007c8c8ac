import type { ExpertsBackend } from './interface.ts';
import { moeExperts } from './moe-experts.ts';

/**
 * `batched_mm`: multiplies every token–expert pair on its own and sums once over the k choices. Best for few tokens
 * (HF `integrations/moe.py`, `batched_mm_experts_forward`).
 */
export const batchedMm: ExpertsBackend = moeExperts;
