import { type ResolvedRepo, resolveRepo } from '../index.ts';
import type { Io } from './io.ts';
import type { ProgressDisplay } from './progress.ts';

/** The repo of a run, resolved once: config, model, tokenizer and processor are of one commit. */
export function openModelRepo(
  source: string,
  { revision }: { revision?: string },
  io: Io,
  display?: ProgressDisplay,
): Promise<ResolvedRepo> {
  const stderr = display ?? io.stderr;
  return resolveRepo(source, {
    ...(revision !== undefined && { revision }),
    ...(display && { onProgress: display.onProgress.bind(display) }),
    onWarning: (message) => stderr.write(`warning: ${message}\n`),
    signal: io.stop,
  });
}
