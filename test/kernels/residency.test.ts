import { testNative } from './cases.ts';
import { RESIDENCY } from './programs.ts';

const cases = [
  'free slots first',
  'the least used gives way',
  'the oldest of equals gives way',
  'old favourites give way',
  'what is wanted stays',
  'what is pinned stays',
  'too many',
  'what could not be brought comes again',
  'random requests',
];

testNative('which experts a bounded number of slots holds', RESIDENCY, cases);
