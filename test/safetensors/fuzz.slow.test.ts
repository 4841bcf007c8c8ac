import { testMutations } from './fuzz.ts';

testMutations({ headers: 14_000, indexes: 5000, configs: 1000 });
