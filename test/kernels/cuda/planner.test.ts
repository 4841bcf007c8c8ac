import { testNative } from '../cases.ts';
import { PLANNER } from '../programs.ts';

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

testNative('the planner and index arithmetic of the CUDA kernels', PLANNER, cases);
