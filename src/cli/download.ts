import { stat } from 'node:fs/promises';
import { basename, dirname, relative } from 'node:path';
import type { Command } from 'commander';
import { loadConfig } from '../auto/load-config.ts';
import { OPTIONAL_MODEL_FILES } from '../auto/model-files.ts';
import { DEMO_MODEL } from '../auto/open-repo.ts';
import { openQuantization } from '../auto/quantization.ts';
import { type MemoryQuestion, warnOfMemory } from '../auto/warn-of-memory.ts';
import { ConfigError } from '../errors.ts';
import { freeSpace } from '../files.ts';
import { resolveRepo } from '../hub/repo/resolve-repo.ts';
import type { HubOptions, Repo } from '../hub/types.ts';
import {
  type CheckpointListener,
  INDEX_FILE,
  openCheckpoint,
  SINGLE_FILE,
} from '../safetensors/checkpoint.ts';
import { counted, formatBytes } from '../units.ts';
import { type Io, UsageError } from './io.ts';
import { examples } from './options.ts';
import { createProgressDisplay } from './progress.ts';

/** Chat templates beside the default one. */
const TEMPLATES_FOLDER = 'additional_chat_templates';

interface Flags {
  revision?: string;
  token?: string;
  cacheDir?: string;
  force?: boolean;
  anyway?: boolean;
  json?: boolean;
}

/** What `switchyard download --json` prints. */
interface Downloaded {
  model: string;
  commit: string;
  /** The snapshot, where all files lie under their own names. */
  folder: string;
  bytes: number;
  files: { name: string; bytes: number }[];
}

/** `switchyard download`: fetch what a load needs into the cache, so that it works offline afterwards. */
export function addDownloadCommand(program: Command, io: Io): void {
  program
    .command('download')
    .description('Fetch a model into the cache: config, weights, tokenizer and processor files.')
    .argument('<model>', 'a repo on the Hugging Face Hub')
    .option('--revision <revision>', 'branch, tag or commit of the repo')
    .option('--token <token>', 'access token; by default HF_TOKEN or the token file')
    .option('--cache-dir <folder>', 'cache folder; by default as HF_HUB_CACHE and HF_HOME say')
    .option('--force', 'fetch also what is cached')
    .option('--anyway', 'fetch also a model that cannot be run here')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      examples(['switchyard download Qwen/Qwen1.5-MoE-A2.7B', 'goes on where it stopped']),
    )
    .action(async (model: string, flags: Flags) => {
      const progress = createProgressDisplay(io.stderr);
      try {
        const { force, json, anyway, ...rest } = flags;
        const options = {
          ...rest,
          forceDownload: force ?? false,
          onProgress: progress.onProgress.bind(progress),
          onWarning: (message: string) => progress.write(`warning: ${message}\n`),
          signal: io.stop,
        };
        const tell = json ? () => {} : (line: string) => progress.write(`${line}\n`);
        const found = await download(model, options, anyway ?? false, tell);
        progress.finish();
        io.stdout.write(json ? `${JSON.stringify(found)}\n` : `${found.folder}\n`);
        if (!json)
          io.stderr.write(
            `${counted(found.files.length, 'file')}, ${formatBytes(found.bytes)} in that folder\n`,
          );
      } finally {
        progress.finish();
      }
    });
}

/** @param tell hears what there is to fetch before it is fetched */
async function download(
  model: string,
  options: HubOptions,
  anyway: boolean,
  tell: (line: string) => void,
): Promise<Downloaded> {
  if (model === DEMO_MODEL) throw new UsageError('demo is part of the package; there is nothing to download');
  const repo = await resolveRepo(model, options);
  if (repo.commit === undefined) {
    throw new UsageError(
      `${model} is a folder on this disk, so there is nothing to download; name a repo, or move it`,
    );
  }
  const config = await repo.require('config.json');
  const question = anyway ? undefined : await checkSupported(repo);
  const onFiles = async (names: readonly string[]) => {
    tell(await toFetch(repo, names));
    if (question) await warnOfMemory(repo, names, { ...question, onWarning: options.onWarning });
  };
  const paths = [config, ...(await optionalFiles(repo)), ...(await weights(repo, onFiles))];
  const folder = dirname(config);
  const files = await Promise.all(
    paths.map(async (path) => ({ name: relative(folder, path), bytes: (await stat(path)).size })),
  );
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  return { model, commit: repo.commit, folder, bytes, files };
}

/** What of the weights is not here, and the room for it. */
async function toFetch(repo: Repo, names: readonly string[]): Promise<string> {
  const files = await Promise.all(names.map((name) => repo.look?.(name)));
  const missing = files.filter((file) => file !== undefined && file.path === undefined);
  const bytes = missing.reduce((sum, file) => sum + (file?.size ?? 0), 0);
  const { cacheFolder = '' } = repo;
  const free = await freeSpace(cacheFolder);
  const room = free === undefined ? '' : `; ${formatBytes(free)} are free in ${cacheFolder}`;
  return `${formatBytes(bytes)} of weights in ${missing.length} of ${counted(names.length, 'file')} to fetch${room}`;
}

/**
 * What cannot be run need not be fetched: config.json says enough.
 * @returns what decides whether it fits into memory
 */
async function checkSupported(repo: Repo): Promise<MemoryQuestion> {
  try {
    const { json, model } = await loadConfig(repo);
    return { model, isQuantized: (await openQuantization(repo, json)) !== undefined };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(`${error.message}. Nothing more was fetched; --anyway fetches it all the same`, {
      cause: error,
    });
  }
}

async function optionalFiles(repo: Repo): Promise<string[]> {
  const templates = (await repo.filesIn?.(TEMPLATES_FOLDER)) ?? [];
  const names = [...OPTIONAL_MODEL_FILES, ...templates.map((name) => `${TEMPLATES_FOLDER}/${name}`)];
  const paths = await Promise.all(names.map((name) => repo.file(name)));
  return paths.filter((path) => path !== undefined);
}

/** The shards and their index. Opening them shows at once whether the headers are sound. */
async function weights(repo: Repo, onFiles: NonNullable<CheckpointListener['onFiles']>): Promise<string[]> {
  const { files } = await openCheckpoint(repo, { onFiles });
  const isSingle = files.length === 1 && basename(files[0] as string) === SINGLE_FILE;
  const index = isSingle ? undefined : await repo.file(INDEX_FILE);
  return index === undefined ? [...files] : [index, ...files];
}
