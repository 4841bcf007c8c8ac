import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isReadableFile, makeFolder, ownCacheFolder, writeWholeFile } from '../../files.ts';

const fileName = () => join(ownCacheFolder(), 'chat-history');

/** What was typed in earlier chats, the latest first. */
export async function readHistory(): Promise<string[]> {
  const isThere = await isReadableFile(fileName()).catch(() => false);
  const text = isThere ? await readFile(fileName(), 'utf8').catch(() => '') : '';
  return text.split('\n').filter((line) => line !== '');
}

/** Keeps what was typed, for this user alone. Where that cannot be, the next chat begins without. */
export async function writeHistory(lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return;
  try {
    await makeFolder(dirname(fileName()));
    await writeWholeFile(fileName(), lines.map((line) => `${line}\n`).join(''), { mode: 0o600 });
  } catch {}
}
