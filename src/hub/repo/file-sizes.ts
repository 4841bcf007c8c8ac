import { HubError } from '../../errors.ts';
import { formatBytes } from '../../units.ts';
import type { RemoteFile } from '../transfer/remote-file.ts';

const MEBIBYTE = 2 ** 20;
/** Most bytes of files that are read whole, by name; their readers have bounds of their own. The largest known are a tenth of it. */
const LIMITS: readonly (readonly [pattern: RegExp, bytes: number])[] = [
  [/(^|\/)(tokenizer|vocab)\.json$|(^|\/)merges\.txt$|\.index\.json$/, 256 * MEBIBYTE],
  [/\.(json|txt|jinja)$/, 16 * MEBIBYTE],
];

/** @throws HubError for a file of settings that is as large as no such file is, before it is fetched */
export function checkSize({ path, size }: RemoteFile, id: string): void {
  const limit = LIMITS.find(([pattern]) => pattern.test(path))?.[1];
  if (limit === undefined || size <= limit) return;
  throw new HubError(
    `${path} of ${id} has ${formatBytes(size)}, more than such a file can have (${formatBytes(limit)}), and is not fetched. ` +
      'The repo is damaged or not what it says',
  );
}
