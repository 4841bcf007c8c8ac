import { testNative } from './cases.ts';
import { LOW_MEMORY } from './programs.ts';

const cases = ['threads of a pool', 'scratch of a run', 'a layer of experts'];

testNative('memory that is refused', LOW_MEMORY, cases);
