import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { DEMO_MODEL } from '../auto/open-repo.ts';
import { planRemoval, type Removal, remove } from '../hub/cache/remove.ts';
import { type CacheContent, scanCache } from '../hub/cache/scan.ts';
import { isRepoId } from '../hub/repo/names.ts';
import { type KeptWeights, listKept, removeKept } from '../quantize/kept.ts';
import { counted, formatBytes } from '../units.ts';
import { type Io, Stop, UsageError } from './io.ts';
import { examples } from './options.ts';

interface RemoveFlags {
  revision?: string;
  cacheDir?: string;
  quantized?: boolean;
  yes?: boolean;
}

/** `switchyard cache ls` and `switchyard cache rm`: what the cache holds, and how to be rid of it. */
export function addCacheCommand(program: Command, io: Io): void {
  const cache = program.command('cache').description('List or remove the models in the cache.');
  cache
    .command('ls')
    .description('List the models in the cache.')
    .option('--cache-dir <folder>', 'cache folder; by default as HF_HUB_CACHE and HF_HOME say')
    .option('--json', 'print one JSON object')
    .addHelpText('after', examples(['switchyard cache ls', '']))
    .action(async ({ cacheDir, json }: { cacheDir?: string; json?: boolean }) => {
      const content = await scanCache(cacheDir);
      for (const warning of content.warnings) io.stderr.write(`warning: ${warning}\n`);
      const quantized = await listKept();
      io.stdout.write(
        json ? `${JSON.stringify({ ...content, quantized })}\n` : list(content) + listQuantized(quantized),
      );
    });
  cache
    .command('rm')
    .description('Remove a model, or one commit of it, from the cache.')
    .argument('<model>', 'a repo id, as "cache ls" lists it')
    .option('--revision <revision>', 'only this branch, tag or commit; files that others share stay')
    .option('--quantized', 'only its weights that were rounded at load; the model may be a folder too')
    .option('--cache-dir <folder>', 'cache folder; by default as HF_HUB_CACHE and HF_HOME say')
    .option('--yes', 'do not ask')
    .addHelpText('after', examples(['switchyard cache rm Qwen/Qwen1.5-MoE-A2.7B', '']))
    .action(async (model: string, flags: RemoveFlags) => {
      if (flags.quantized) {
        io.stdout.write(await removeQuantized(model));
        return;
      }
      if (!isRepoId(model))
        throw new UsageError(`"${model}" is not a repo id such as Qwen/Qwen1.5-MoE-A2.7B`);
      if (model === DEMO_MODEL)
        throw new UsageError('demo is part of the package, and not in the cache; there is nothing to remove');
      const removal = await planRemoval(model, flags.revision, flags.cacheDir);
      if (!flags.yes && !io.stdin.isTTY)
        throw new UsageError('there is nobody to ask; confirm the removal with --yes');
      if (!flags.yes && !(await confirmed(removal, io))) {
        io.stderr.write('nothing was removed\n');
        return;
      }
      await remove(removal);
      io.stdout.write(`removed ${describe(removal)}\n`);
    });
}

/** They can be made again at any time, so that nobody is asked. */
async function removeQuantized(model: string): Promise<string> {
  const own = (await listKept()).filter((kept) => kept.model === model);
  if (own.length === 0)
    throw new UsageError(`no rounded weights of ${model} are kept; "cache ls" lists those that are`);
  for (const kept of own) await removeKept(kept);
  return own.map(({ scheme, bytes }) => `removed ${model} in ${scheme}, ${formatBytes(bytes)}\n`).join('');
}

async function confirmed(removal: Removal, io: Io): Promise<boolean> {
  const prompt = createInterface({ input: io.stdin, output: io.stderr });
  try {
    // Ctrl-D ends the input without an answer.
    const closed = new Promise<string>((resolve) => prompt.once('close', () => resolve('')));
    // A terminal that is read by line hands Ctrl-C to the reader.
    const interrupted = new Promise<never>((_, reject) =>
      prompt.once('SIGINT', () => reject(new Stop('interrupted', 130))),
    );
    const asked = prompt.question(`Remove ${describe(removal)}? [y/N] `, { signal: io.stop });
    return /^y(es)?$/i.test((await Promise.race([asked, closed, interrupted])).trim());
  } finally {
    prompt.close();
  }
}

function describe({ id, commits, bytes, linkedBlobs }: Removal): string {
  const count = commits.length === 1 ? `commit ${commits[0]}` : `${commits.length} commits`;
  const links = linkedBlobs === 0 ? '' : `; ${linkedBlobs} of its files lie outside the cache and stay`;
  return `${count} of ${id}, ${formatBytes(bytes)}${links}`;
}

function listQuantized(kept: readonly KeptWeights[]): string {
  return kept
    .map(({ model, scheme, bytes }) => `${model}  ${scheme}, ${formatBytes(bytes)}, rounded at load\n`)
    .join('');
}

function list({ folder, models }: CacheContent): string {
  if (models.length === 0) return `no models in ${folder}\n`;
  const lines = models.flatMap(({ id, bytes, revisions }) => [
    `${id}  ${formatBytes(bytes)}`,
    ...revisions.map(({ commit, refs, files, bytes }) => {
      const names = refs.length === 0 ? '' : ` (${refs.join(', ')})`;
      return `  ${commit}${names}  ${counted(files, 'file')}, ${formatBytes(bytes)}`;
    }),
  ]);
  const total = models.reduce((sum, { bytes }) => sum + bytes, 0);
  return `${[...lines, `${formatBytes(total)} in ${folder}`].join('\n')}\n`;
}
