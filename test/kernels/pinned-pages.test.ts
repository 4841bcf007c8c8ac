import { describe } from 'vitest';
import { testNative } from './cases.ts';
import { PINNED_PAGES } from './programs.ts';

const cases = [
  'keeps an expert',
  'keeps pages that are shared with others',
  'keeps a tensor',
  'reads what it may not lock',
  'ends early',
  'refuses what there is not',
];

// Linux says how many pages of a process are locked.
describe.skipIf(process.platform !== 'linux')('pages', () => {
  testNative('which pages of tensors are kept in memory', PINNED_PAGES, cases);
});
