import { describeSanitizer } from './sanitizers.ts';

await describeSanitizer('thread');
