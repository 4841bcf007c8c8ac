import { testNative } from './cases.ts';
import { ROW_PANELS } from './programs.ts';

const cases = [
  'laid out while it is read',
  'only what is wanted, and is whole panels',
  'ends early',
  'where products may begin',
];

testNative('weights in row panels', ROW_PANELS, cases);
