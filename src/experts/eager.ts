import type { ExpertsBackend } from './interface.ts';
import { moeExperts } from './moe-experts.ts';

/** Loops over the experts that were chosen at all, one matrix product each over its tokens. The readable reference. */
export const eager: ExpertsBackend = moeExperts;
