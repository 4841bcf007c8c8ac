import { join } from 'node:path';
import { testNative } from './cases.ts';
import { root } from './native-program.ts';

const cases = [
  'free slots first',
  'the least used gives way',
  'the oldest of equals gives way',
  'what is wanted stays',
  'too many',
  'what could not be brought comes again',
  'random requests',
];

const sources = ['test/kernels/residency_test.cc', 'kernels/weights/residency.cc'];
testNative(
  'which experts a bounded number of slots holds',
  { name: 'residency', sources: sources.map((name) => join(root, name)), options: ['-O1'] },
  cases,
);
