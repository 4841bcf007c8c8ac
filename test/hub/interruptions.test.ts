import { testInterruptions } from './interruptions.ts';

testInterruptions({ cuts: 12, aborts: 6, kills: 3 });
