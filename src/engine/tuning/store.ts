/** Keeps what autotuning measured, a file for each model geometry and machine. */
import { createHash } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { ConfigError } from '../../errors.ts';
import { IMPLEMENTATIONS } from '../../experts/moe-op.ts';
import { makeFolder, ownCacheFolder, replaceFile, whyUnwritable } from '../../files.ts';
import { readJsonFile } from '../../json.ts';
import { partialPath, removeLeftovers } from '../../partial-paths.ts';
import { RECORDABLE_BACKENDS, type TuningTable } from './policy.ts';

/** Changes with what is measured, and how. */
const VERSION = 4;

/** What a measurement holds for: model geometry, precision, device and software. */
export type TuningKey = Readonly<Record<string, string | number>>;

const time = z.number().min(0);
const schema = z.object({
  version: z.literal(VERSION),
  key: z.record(z.string(), z.union([z.string(), z.number()])),
  table: z
    .array(
      z.object({
        tokens: z.int().positive(),
        backend: z.enum(IMPLEMENTATIONS),
        recordable: z.enum(RECORDABLE_BACKENDS),
        milliseconds: z.object({ eager: time, batched_mm: time, grouped_mm: time }).optional(),
      }),
    )
    .min(1)
    .refine((table) => table.every(({ tokens }, i) => i === 0 || tokens > (table[i - 1]?.tokens ?? 0))),
});

/** Folder of the files. */
export function autotuneFolder(
  env: Readonly<Record<string, string | undefined>> = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  return join(ownCacheFolder(env, platform), 'autotune');
}

/** The file for a key. */
function autotuneFile(key: TuningKey, folder: string = autotuneFolder()): string {
  const digest = createHash('sha256').update(canonical(key)).digest('hex').slice(0, 32);
  return join(folder, `${digest}.json`);
}

/** The table kept for a key; undefined where there is none, with a warning where its file is of no use. */
export async function readTuning(
  key: TuningKey,
  warn: (message: string) => void,
): Promise<TuningTable | undefined> {
  const file = autotuneFile(key);
  let stored: unknown;
  try {
    stored = await readJsonFile(file);
  } catch (error) {
    const { message, cause } = error as Error;
    if (error instanceof ConfigError) stored = undefined;
    else {
      const { code } = (cause ?? error) as NodeJS.ErrnoException;
      if (code !== 'ENOENT') warn(`${message}; it is measured anew`);
      return undefined;
    }
  }
  const parsed = schema.safeParse(stored);
  if (!parsed.success) {
    warn(`${file} is damaged or of another version; it is ignored and measured anew`);
    return undefined;
  }
  if (canonical(parsed.data.key) === canonical(key)) return parsed.data.table;
  warn(`${file} holds measurements of another model or machine; it is ignored and measured anew`);
  return undefined;
}

/** Keeps a table, all or nothing. A folder that cannot be written costs a warning. */
export async function writeTuning(
  key: TuningKey,
  table: TuningTable,
  warn: (message: string) => void,
): Promise<void> {
  const folder = autotuneFolder();
  const file = autotuneFile(key, folder);
  const partial = await partialPath(file);
  try {
    await makeFolder(folder);
    await removeLeftovers(folder);
    await writeFile(partial, `${JSON.stringify({ version: VERSION, key, table }, null, 2)}\n`);
    await replaceFile(partial, file);
  } catch (error) {
    await rm(partial, { force: true }).catch(() => {});
    warn(
      `what autotuning measured cannot be kept in ${file}: ${whyUnwritable(error)}. ` +
        'Set SWITCHYARD_CACHE to a folder that can be written.',
    );
  }
}

function canonical(key: TuningKey): string {
  return JSON.stringify(Object.entries(key).sort(([a], [b]) => (a < b ? -1 : 1)));
}
