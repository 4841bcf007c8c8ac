import type { ExpertsBackend } from './interface.ts';
import { moeExperts } from './moe-experts.ts';

/** Sorts the pairs by expert and runs one grouped matrix product. At home in prefill. */
export const groupedMm: ExpertsBackend = moeExperts;
