import { testNative } from './cases.ts';
import { COPIED_PAGES } from './programs.ts';

const cases = ['copied while it is read', 'pages of its own'];

testNative('copies of a mapped file in its place', COPIED_PAGES, cases);
