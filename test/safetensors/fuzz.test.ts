import { testMutations } from './fuzz.ts';

testMutations({ headers: 1000, indexes: 500, configs: 200 });
