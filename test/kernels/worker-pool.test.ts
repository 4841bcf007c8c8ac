import { testNative } from './cases.ts';
import { WORKER_POOL } from './programs.ts';

const cases = [
  'every call once',
  'after rests',
  'no more than processors',
  'one that is put aside',
  'several callers',
  'what calls throw',
  'ends at any time',
];

testNative('the thread pool of sessions', WORKER_POOL, cases);
