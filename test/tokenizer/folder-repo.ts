import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import type { Repo } from '../../src/hub/types.ts';

/** Path of a file or folder among the reference data. */
export function goldenPath(name: string): string {
  return fileURLToPath(new URL(`../fixtures/goldens/${name}`, import.meta.url));
}

/** A repo that is a plain folder on this disk. */
export function folderRepo(folder: string): Repo {
  const find = async (name: string) => (existsSync(join(folder, name)) ? join(folder, name) : undefined);
  const require = async (name: string) => {
    const path = await find(name);
    if (path === undefined) throw new Error(`${folder} has no ${name}`);
    return path;
  };
  const requireAll = (names: readonly string[]) => Promise.all(names.map(require));
  const filesIn = (name: string) => readdir(join(folder, name)).catch(() => []);
  return { id: folder, commit: undefined, file: find, require, requireAll, filesIn };
}

/** A copy of a golden tokenizer with some files replaced (text), dropped (undefined), or edited (function of JSON). */
export async function alteredTokenizer(
  model: string,
  // biome-ignore lint/suspicious/noExplicitAny: the tests reach deep into parsed JSON.
  files: Record<string, string | undefined | ((json: any) => void)>,
): Promise<Repo> {
  const folder = await mkdtemp(join(tmpdir(), 'tokenizer-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const name of [
    'tokenizer.json',
    'tokenizer_config.json',
    'vocab.json',
    'merges.txt',
    'chat_template.json',
  ]) {
    const source = goldenPath(`models/${model}/${name}`);
    if (existsSync(source)) await cp(source, join(folder, name));
  }
  for (const [name, change] of Object.entries(files)) {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    if (change === undefined) await rm(path);
    else if (typeof change === 'string') await writeFile(path, change);
    else {
      const json: unknown = JSON.parse(await readFile(path, 'utf8'));
      change(json);
      await writeFile(path, JSON.stringify(json));
    }
  }
  return folderRepo(folder);
}
