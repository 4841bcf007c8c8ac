import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildProgram, casesOf, runCase, testFolder, warningOptions } from './native.ts';

const cases = [
  'random routing',
  'skewed routing',
  'all tokens on the same experts',
  'few of many experts active',
  'no tokens',
  'one expert',
  'every expert once',
  'tiles of an expert are even',
  'the fixed grid is as small as it can be',
  'swizzles are free of bank conflicts',
  'warps cover the tile once',
  'fragment loads follow the registers',
  'warpgroups cover the tile once',
];

describe('the planner and index arithmetic of the CUDA kernels', () => {
  let program: string;
  beforeAll(async () => {
    program = await buildProgram('planner', [join(testFolder, 'planner_test.cc')], warningOptions);
  });

  it('has every native case listed here', () => expect(casesOf(program)).toEqual(cases));
  it.each(cases)('%s', (name) => runCase(program, name));
});
