import { testNative } from './cases.ts';
import { EXPERT_MEMORY } from './programs.ts';

const cases = [
  'matrices of their own',
  'parts of one tensor',
  'codes of several matrices',
  'many arrive in groups',
  'the least used give way',
  'what is expected is read ahead',
  'wrong guesses change nothing',
  'too little is refused',
  'what stays stays',
  'a file that is cut short',
];

testNative('experts in memory of a bounded size', EXPERT_MEMORY, cases);
