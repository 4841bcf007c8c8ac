import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildProgram, casesOf, root, runCase, warningOptions } from './cuda/native.ts';

const cases = [
  'free slots first',
  'the least used gives way',
  'the oldest of equals gives way',
  'what is wanted stays',
  'too many',
  'what could not be brought comes again',
  'random requests',
];

describe('which experts a bounded number of slots holds', () => {
  let program: string;
  beforeAll(async () => {
    const sources = ['test/kernels/residency_test.cc', 'kernels/common/residency.cc'];
    program = await buildProgram(
      'residency',
      sources.map((name) => join(root, name)),
      warningOptions,
    );
  });

  it('has every native case listed here', () => expect(casesOf(program)).toEqual(cases));
  it.each(cases)('%s', (name) => runCase(program, name));
});
