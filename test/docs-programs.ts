import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');

/** A block of code of the documentation that is a program as it stands. */
export interface DocumentedProgram {
  readonly page: string;
  /** Its place among those of the page, from 1. */
  readonly number: number;
  readonly language: 'js' | 'ts';
  readonly code: string;
}

/** The programs of the README and of the pages for users, but for those that say of themselves that they are not run. */
export function documentedPrograms(): DocumentedProgram[] {
  const pages = [
    'README.md',
    ...readdirSync(join(root, '.github/docs')).map((name) => `.github/docs/${name}`),
  ];
  return pages.flatMap((page) => {
    const text = readFileSync(join(root, page), 'utf8');
    const blocks = [...text.matchAll(/^```(js|ts)\n(.*?)^```$/gms)];
    return blocks.map(([, language, code = ''], i) => ({
      ...{ page: page.replace('.github/docs/', ''), number: i + 1 },
      language: language as 'js' | 'ts',
      code,
    }));
  });
}
