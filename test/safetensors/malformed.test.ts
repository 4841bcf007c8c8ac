import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SwitchyardError } from '../../src/errors.ts';
import type { FolderRepo } from '../../src/hub/repo/folder-repo.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { openCheckpoint } from '../../src/safetensors/checkpoint.ts';
import { readJson } from '../helpers/goldens.ts';
import { residentGrowth } from '../helpers/memory.ts';
import { temporaryFolder } from '../hub/helpers.ts';
import { fileOf, messageOf, repoOf } from './build.ts';

const FOLDER = join(import.meta.dirname, '../fixtures/goldens/malformed');
const LARGEST_ALLOCATION = 64 * 2 ** 20;

interface Case {
  name: string;
  defect: string;
  expect: 'error' | 'either' | 'load';
  file: string | string[];
  subject: string | string[];
}
const { cases } = readJson<{ cases: Case[] }>(FOLDER, 'manifest.json');
/** The cases whose defect lies in the weights files themselves. */
const damaged = cases.filter(({ name }) => /^(st_|index_|weights_absent)/.test(name));
const intact = cases.filter(({ name }) => !damaged.some((bad) => bad.name === name));

const openCase = async (name: string) => openCheckpoint(await resolveRepo(join(FOLDER, name)));
/** One of the alternatives must be in the text; a subject in parentheses, or "header", only describes the place. */
const mentions = (text: string, words: string | string[]) =>
  [words].flat().some((word) => word.startsWith('(') || word === 'header' || text.includes(word));

describe('a damaged checkpoint is refused with file and tensor or field', () => {
  test.each(damaged)('$name: $defect', async ({ name, file, subject }) => {
    const error = await openCase(name).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(SwitchyardError);
    expect(mentions(error.message, file), error.message).toBe(true);
    expect(mentions(error.message, subject), error.message).toBe(true);
  });
});

test.each(intact)('$name opens: its weights files are sound', async ({ name }) => {
  expect((await openCase(name)).tensors.size).toBeGreaterThan(0);
});

describe('a malformed file costs little memory', () => {
  /** A file of 120 MB whose header claims almost 100 MB, begins with `start` and goes on with zeros, unwritten on disk. */
  async function sparse(path: string, start: string): Promise<void> {
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(99_999_999n);
    const handle = await open(path, 'w');
    await handle.write(Buffer.concat([prefix, Buffer.from(start)]));
    await handle.truncate(120_000_000);
    await handle.close();
  }

  test.each(['', '{', '{"a":{"shape":[', '{"__metadata__":{"a":"'])(
    'a header of 100 MB after %j',
    async (start) => {
      const repo = await repoOf(await temporaryFolder(), {});
      await sparse(join((repo as FolderRepo).folder, 'model.safetensors'), start);
      const grown = await residentGrowth(async () =>
        expect(await messageOf(openCheckpoint(repo))).toMatch(/bad header/),
      );
      expect(grown).toBeLessThan(LARGEST_ALLOCATION);
    },
  );

  test('a string that never ends', async () => {
    const text = `{"__metadata__":{"a":"${'x'.repeat(30_000_000)}"}}`;
    const repo = await repoOf(await temporaryFolder(), { 'model.safetensors': fileOf(text) });
    const grown = await residentGrowth(async () =>
      expect(await messageOf(openCheckpoint(repo))).toMatch(/longer than 4194304 bytes/),
    );
    expect(grown).toBeLessThan(LARGEST_ALLOCATION);
  });

  test('every damaged golden', async () => {
    const grown = await residentGrowth(async () => {
      for (const { name } of damaged) await messageOf(openCase(name));
    });
    expect(grown).toBeLessThan(LARGEST_ALLOCATION);
  });
});
