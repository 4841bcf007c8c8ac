/** Rounded weights that are kept between loads, a folder for each checkpoint and scheme. */
import { createHash } from 'node:crypto';
import { lstat, open, readdir, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CheckpointError } from '../errors.ts';
import { isInUse, makeFolder, ownCacheFolder, removePath, replaceFile, unreadable } from '../files.ts';
import { readJsonFile } from '../json.ts';
import { partialPath, removeLeftovers } from '../partial-paths.ts';
import type { TensorInfo } from '../safetensors/types.ts';
import type { FileLayout } from '../safetensors/writer.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';
import { checkRoom, inWords } from './disk.ts';

/** Changes with how weights are rounded or written. */
const VERSION = 1;
const WEIGHTS = 'weights.safetensors';
const ABOUT = 'about.json';
const REMEDY = 'set SWITCHYARD_CACHE to a folder on another disk';

const about = z.object({
  version: z.literal(VERSION),
  model: z.string(),
  scheme: z.string(),
  bytes: z.number(),
});

/** What is kept of one model. */
export interface KeptWeights {
  readonly folder: string;
  /** As it was loaded: repo id or folder. */
  readonly model: string;
  /** In words, such as `experts int4 in groups of 32, head int8`. */
  readonly scheme: string;
  readonly bytes: number;
}

/** Folder of all of them. */
export function keptFolder(env: NodeJS.ProcessEnv = process.env): string {
  return join(ownCacheFolder(env), 'quantized');
}

/**
 * The folder for a checkpoint and what it is rounded to. Files are known by path, size and time, and by every tensor's name, type, shape
 * and place.
 */
export async function folderFor(checkpoint: ModelCheckpoint, scheme: unknown): Promise<string> {
  const files = await Promise.all(
    checkpoint.files.map(async (file) => {
      const path = await realpath(file);
      const { size, mtimeMs } = await stat(path);
      return [path, size, mtimeMs];
    }),
  );
  const hash = createHash('sha256').update(JSON.stringify([VERSION, scheme, files]));
  const quantized = [...(checkpoint.quantized?.values() ?? [])].map(({ codes }) => codes.tensor);
  for (const { name, dtype, shape, offset } of [...checkpoint.tensors.values(), ...quantized])
    hash.update(JSON.stringify([name, dtype, shape, offset]));
  return join(keptFolder(), hash.digest('hex').slice(0, 32));
}

/** A file of kept weights. */
export interface KeptFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

export interface KeptUse<T> {
  /** Of the file. */
  readonly layout: FileLayout;
  /** Makes of a file what is wanted of it. @throws CheckpointError where what it holds is damaged */
  readonly open: (file: KeptFile) => Promise<T> | T;
  /** Hears that a file is to be written, before anything is looked at for that. */
  readonly onWrite?: () => void;
  /** Writes a file to a path. */
  readonly write: (path: string) => Promise<void>;
  readonly warn: (message: string) => void;
}

/**
 * What is kept in a folder, written where it is not there. What is damaged is written anew, with a warning.
 * @throws EngineError where the disk lacks room or cannot be written; CheckpointError where what was written is not there
 */
export async function useKept<T extends object>(what: KeptWeights, use: KeptUse<T>): Promise<T> {
  const { folder, model } = what;
  const look = async () => {
    try {
      const file = await readKept(folder, use.layout);
      return file && (await use.open(file));
    } catch (error) {
      if (error instanceof CheckpointError) return undefined;
      throw error;
    }
  };
  const before = await lstat(folder).catch(() => undefined);
  const there = await look();
  if (there) return there;
  if (before)
    use.warn(`what is kept of ${model} in ${folder} is damaged; it is made anew from the checkpoint`);
  use.onWrite?.();
  await keep(what, async () => (await look()) !== undefined, use.write);
  const written = await look();
  if (written) return written;
  throw new CheckpointError(
    `${folder} does not hold what has just been written there: it was removed or damaged since, or another process uses what was there. ` +
      `End those, remove it (switchyard cache rm --quantized ${model}) and load the model again; if that does not help, ${REMEDY}`,
  );
}

/**
 * The file in a folder and its tensors.
 * @returns undefined where there is none, or another than is wanted: its header has to be what is written now, byte by byte, and its size too
 * @throws HubError where permission to read it is missing
 */
async function readKept(folder: string, layout: FileLayout): Promise<KeptFile | undefined> {
  const path = join(folder, WEIGHTS);
  // Without what says of which model it is nobody could list or remove it.
  if ((await readAbout(folder)) === undefined || !(await beginsWith(path, layout))) return undefined;
  return {
    path,
    tensors: new Map([...layout.places].map(([name, place]) => [name, { ...place, file: path }])),
  };
}

async function beginsWith(path: string, { header, bytes }: FileLayout): Promise<boolean> {
  try {
    const found = await stat(path);
    if (!found.isFile() || found.size !== bytes) return false;
    const handle = await open(path);
    try {
      const stored = Buffer.alloc(header.length);
      await handle.read(stored, 0, stored.length, 0);
      return stored.equals(header);
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (/^(EACCES|EPERM)$/.test((error as NodeJS.ErrnoException).code ?? '')) throw unreadable(path, error);
    return false;
  }
}

/**
 * Keeps weights, all or nothing: they appear in the folder once they are complete.
 * @param isThere whether another process has put the same there meanwhile
 * @param write writes the file of weights to a path
 * @throws EngineError where the disk lacks room or cannot be written
 */
async function keep(
  what: KeptWeights,
  isThere: () => Promise<boolean>,
  write: (path: string) => Promise<void>,
): Promise<void> {
  const { folder, ...rest } = what;
  const partial = await partialPath(folder);
  await removeLeftovers(keptFolder());
  try {
    await makeFolder(partial);
    await checkRoom(partial, what.bytes, REMEDY);
    await write(join(partial, WEIGHTS));
    await writeFile(join(partial, ABOUT), `${JSON.stringify({ version: VERSION, ...rest })}\n`);
    await putInPlace(partial, folder, isThere);
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {});
    throw inWords(error, partial, what.bytes, REMEDY);
  }
}

/** How systems refuse to put a folder where something is. */
const IS_THERE = /^(ENOTEMPTY|EEXIST|ENOTDIR)$/;

/** Another process may have just put the same there, and use it; what else is there is of no use. */
async function putInPlace(partial: string, folder: string, isThere: () => Promise<boolean>): Promise<void> {
  const former = `${partial}.former`;
  const discard = () => rm(partial, { recursive: true, force: true });
  for (;;) {
    try {
      return await replaceFile(partial, folder);
    } catch (error) {
      if (!IS_THERE.test((error as NodeJS.ErrnoException).code ?? '') && !isInUse(error)) throw error;
    }
    if (await isThere()) return discard();
    try {
      await rename(folder, former);
    } catch (error) {
      // Windows lets nobody move what somebody uses.
      if (isInUse(error)) return discard();
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    await rm(former, { recursive: true, force: true });
  }
}

/** Everything that is kept, by model. */
export async function listKept(): Promise<KeptWeights[]> {
  const folders = await readdir(keptFolder()).catch(() => []);
  const kept = await Promise.all(folders.map((name) => readAbout(join(keptFolder(), name))));
  return kept.filter((one) => one !== undefined).sort((a, b) => (a.model < b.model ? -1 : 1));
}

async function readAbout(folder: string): Promise<KeptWeights | undefined> {
  const parsed = about.safeParse(await readJsonFile(join(folder, ABOUT)).catch(() => undefined));
  if (!parsed.success) return undefined;
  const { model, scheme, bytes } = parsed.data;
  return { folder, model, scheme, bytes };
}

/** Removes what is kept; models that use it go on, but on Windows keep it from being removed. */
export async function removeKept({ folder }: KeptWeights): Promise<void> {
  await removePath(folder);
}
