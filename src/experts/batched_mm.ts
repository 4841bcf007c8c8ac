import type { ExpertsBackend } from './interface.ts';
import { moeExperts } from './moe-experts.ts';

/** Every pair of token and expert on its own, all pairs at once. At home in decoding, where pairs are few. */
export const batchedMm: ExpertsBackend = moeExperts;
