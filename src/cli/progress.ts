import type { Writable } from 'node:stream';
import { progressDisabled } from '../hub/environment.ts';
import type { ProgressEvent } from '../index.ts';
import { formatBytes } from './format.ts';

/** Loads that take less pass in silence; longer ones report this often. */
const INTERVAL_MS = 2000;

/** An `onProgress` that writes a line now and then while a load takes long, unless HF_HUB_DISABLE_PROGRESS_BARS is set. */
export function progressPrinter(
  stderr: Writable,
  now: () => number = Date.now,
): (event: ProgressEvent) => void {
  let last = now();
  return (event) => {
    if (progressDisabled() || now() - last < INTERVAL_MS) return;
    last = now();
    const { totalLoadedBytes: loaded, totalBytes: total } = event;
    const share = total > 0 ? ` ${Math.floor((100 * loaded) / total)}% of ${formatBytes(total)}` : '';
    stderr.write(`${event.stage}:${share} (${event.file})\n`);
  };
}
