import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LOAD_OPTIONS } from '../src/auto/load-options.ts';
import { PARAMETER_NAMES } from '../src/generation/parameters.ts';
import { OTHER_OPTIONS } from '../src/generation/plan.ts';
import { COMPILE_OPTIONS } from '../src/model/compile.ts';
import { LOGITS_OPTIONS } from '../src/model/forward.ts';
import { PROMPT_OPTIONS } from '../src/model/prompt-options.ts';
import { SERVER_OPTIONS } from '../src/server/options.ts';
import { run } from './cli/capture.ts';

const root = join(import.meta.dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const page = (name: string) => read(join('.github/docs', name));
const PAGES = ['README.md', ...readdirSync(join(root, '.github/docs')).map((name) => `.github/docs/${name}`)];
const EVERYTHING = PAGES.map(read).join('\n');

test.each([
  ['fromPretrained', LOAD_OPTIONS, ['api.md']],
  ['generate', [...PARAMETER_NAMES, ...OTHER_OPTIONS, ...PROMPT_OPTIONS], ['api.md', 'routing.md']],
  ['forward', LOGITS_OPTIONS, ['api.md']],
  ['compile', COMPILE_OPTIONS, ['api.md']],
  ['createServer', SERVER_OPTIONS, ['server.md']],
] as const)('every option of %s is named in the reference', (_, names: readonly string[], pages) => {
  const text = pages.map(page).join('\n');
  expect(names.length).toBeGreaterThan(2);
  expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(text))).toEqual([]);
});

/** What backends get, and what a config file says: neither is given by callers. */
const NO_OPTIONS = /^(ExpertsInputs|OpOptions|\w+Config)$/;

/** Interfaces of options that the package exports, with the names of their members. */
function exportedOptions(): (readonly [name: string, members: readonly string[]])[] {
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => read(join('src', path)));
  const exported = ['index.ts', 'server/index.ts', 'ai-sdk/index.ts', 'langchain/index.ts']
    .map((entry) => read(join('src', entry)))
    .flatMap((code) => [...code.matchAll(/^export (?:type )?\{([^}]*)\}/gm)].map(([, names = '']) => names))
    .flatMap((names) => names.split(','))
    .map(
      (name) =>
        name
          .trim()
          .replace(/^type /, '')
          .split(' as ')[0] ?? '',
    )
    .filter((name) => /(Options|Inputs|Spec|Bounds|Limits|Parameters|Fields)$/.test(name))
    .filter((name) => !NO_OPTIONS.test(name));
  return [...new Set(exported)].flatMap((name) => {
    const declaration = new RegExp(`^export interface ${name}\\b[^{]*\\{\n(.*?)^\\}`, 'ms');
    const body = sources.map((code) => declaration.exec(code)?.[1]).find((found) => found !== undefined);
    // Other types are made of these.
    if (body === undefined) return [];
    return [
      [name, [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??[:(]/gm)].map(([, key = '']) => key)] as const,
    ];
  });
}

test.each(exportedOptions())('every member of %s is named on a page', (_, members) => {
  expect(members.filter((name) => !new RegExp(`\\b${name}\\b`).test(EVERYTHING))).toEqual([]);
});

test('the interfaces of options are found', () => {
  const names = exportedOptions().map(([name]) => name);
  expect(names).toEqual(
    expect.arrayContaining(['GenerateOptions', 'HubOptions', 'ServerOptions', 'TokenizeOptions']),
  );
});

test('every environment variable that is read has its row', () => {
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => read(join('src', path)));
  const names = sources.flatMap((code) =>
    [...code.matchAll(/\benv\.([A-Z][A-Z0-9_]+)/g)].map(([, name = '']) => name),
  );
  expect(names).toContain('HF_ENDPOINT');
  const text = page('environment.md');
  // What a terminal says of itself is no setting of ours.
  expect(names.filter((name) => name !== 'TERM' && !text.includes(`\`${name}`))).toEqual([]);
});

describe('the command line', async () => {
  const list = (help: string) => [...help.matchAll(/^ {2}([a-z]+) /gm)].map(([, name = '']) => name);
  const names = list((await run(['--help'])).stdout).filter((name) => name !== 'help');
  const commands = [...names, 'cache ls', 'cache rm'];
  const helps = new Map<string, string>();
  for (const name of commands) helps.set(name, (await run([...name.split(' '), '--help'])).stdout);
  const optionsOf = (name: string) =>
    [...(helps.get(name) ?? '').matchAll(/^ {2}(?:(-\w), )?(--[\w-]+)/gm)].flatMap(([, ...found]) => found);

  test.each(commands)('every option of %s is named on a page', (name) => {
    const known = optionsOf(name).filter((option) => option?.startsWith('--') && option !== '--help');
    expect(known.filter((option) => !new RegExp(`(?<![\\w-])${option}(?![\\w-])`).test(EVERYTHING))).toEqual(
      [],
    );
  });

  test.each(PAGES)('%s names commands and options that there are', (path) => {
    const typed = [
      ...read(path).matchAll(/\b(?:switchyard|cli\/main\.js) (cache (?:ls|rm)|[a-z]+)\b([^`|\n]*)/g),
    ];
    const wrong = typed
      // A sentence may speak of Switchyard, too; what it means stands in code.
      .filter(([, name = '']) => helps.has(name))
      .flatMap(([, name = '', rest = '']) => {
        const given = [...rest.matchAll(/(?<=\s)--?[a-z][\w-]*/g)].map(([option]) => option);
        return given
          .filter((option) => !optionsOf(name).includes(option))
          .map((option) => `${name} ${option}`);
      });
    const unknown = [...read(path).matchAll(/(?:^|`)(?:npx (?:moe-)?)?switchyard ([a-z]+)/gm)]
      .map(([, name = '']) => name)
      .filter((name) => !names.includes(name));
    expect([...wrong, ...unknown]).toEqual([]);
  });
});
