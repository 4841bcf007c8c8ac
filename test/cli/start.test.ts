import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { run } from './capture.ts';

const src = fileURLToPath(new URL('../../src', import.meta.url));

/** The packages that are loaded with a module: by it, or by what it imports, but for what it loads later. */
function packagesLoadedWith(entry: string): string[] {
  const seen = new Set<string>();
  const packages = new Set<string>();
  const visit = (path: string) => {
    if (seen.has(path)) return;
    seen.add(path);
    // Types are gone by then.
    const code = readFileSync(path, 'utf8').replace(/^(import|export) type [\s\S]*?;$/gm, '');
    for (const [, specifier = ''] of code.matchAll(/^(?:import|export)\b[^;]*?\bfrom '([^']+)';$/gm)) {
      if (specifier.startsWith('.')) visit(join(dirname(path), specifier));
      else if (!specifier.startsWith('node:')) packages.add(specifier);
    }
  };
  visit(join(src, entry));
  return [...packages].sort();
}

test('--version and --help wait for nothing but the parser of options', () => {
  expect(packagesLoadedWith('cli/main.ts')).toEqual(['commander']);
});

test('importing the library loads neither the Hub, nor pictures, nor proxies, nor the engine', () => {
  expect(packagesLoadedWith('index.ts')).toEqual(['oniguruma-to-es', 'protobufjs/minimal.js', 'zod']);
});

test('the list of commands says what each says of itself', async () => {
  const words = (text: string) => text.replace(/\s+/g, ' ');
  const list = words((await run(['--help'])).stdout);
  const names = [...(await run(['--help'])).stdout.matchAll(/^ {2}([a-z]+)/gm)].map(([, name = '']) => name);
  expect(names).toEqual(expect.arrayContaining(['generate', 'doctor', 'help']));
  for (const name of names.filter((name) => name !== 'help')) {
    const help = (await run([name, '--help'])).stdout;
    const [usage = '', description = ''] = help.split('\n\n');
    expect(usage).toMatch(new RegExp(`^Usage: switchyard ${name}\\b`));
    expect(list).toContain(words(description));
    expect((await run(['help', name])).stdout).toBe(help);
  }
});

test('of a command that does not exist the nearest is named', async () => {
  const { exitCode, stderr } = await run(['genrate']);
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/unknown command 'genrate'\n.*Did you mean generate\?/);
});
