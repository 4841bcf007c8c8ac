import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Recipe {
  readonly title: string;
  readonly text: string;
  /** Whether it says that a test of this repository runs it. */
  readonly isRunHere: boolean;
  readonly blocks: readonly { readonly language: string; readonly code: string }[];
}

/** The recipes of the documentation. */
export function recipes(): Recipe[] {
  const page = readFileSync(join(import.meta.dirname, '../.github/docs/recipes.md'), 'utf8');
  return page
    .split(/^## /m)
    .slice(1)
    .map((section) => ({
      title: section.slice(0, section.indexOf('\n')),
      text: section,
      isRunHere: section.includes('*Run by `test/recipes.slow.test.ts`'),
      blocks: [...section.matchAll(/^```([^\n]*)\n(.*?)^```$/gms)].map(([, language = '', code = '']) => ({
        language,
        code,
      })),
    }));
}
