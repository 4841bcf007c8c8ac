import { testInterruptions } from './interruptions.ts';

testInterruptions({ cuts: 115, aborts: 60, kills: 25 });
