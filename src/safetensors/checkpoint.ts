import { CheckpointError, HubError } from '../errors.ts';
import type { Repo } from '../hub/types.ts';
import { readHeader } from './header.ts';
import { readShardIndex, type ShardIndex } from './index-file.ts';
import { MAX_TENSORS } from './limits.ts';
import type { Checkpoint, TensorInfo } from './types.ts';

export const SINGLE_FILE = 'model.safetensors';
export const INDEX_FILE = 'model.safetensors.index.json';
const HEADERS_AT_ONCE = 8;

/**
 * Opens the weights of a repo or folder: `model.safetensors`, else the shards of `model.safetensors.index.json` (the
 * order of `from_pretrained`). Shards that are not on this disk are fetched. Every header is validated and the index
 * agrees with it; no tensor is read.
 *
 * @param listener hears how far it is
 * @throws CheckpointError naming file and tensor for a damaged file; HubError for missing ones (all of them at once)
 */
export async function openCheckpoint(repo: Repo, listener: CheckpointListener = {}): Promise<Checkpoint> {
  if (listener.onFiles && (await repo.look?.(SINGLE_FILE))) await listener.onFiles([SINGLE_FILE]);
  const single = await repo.file(SINGLE_FILE);
  if (single !== undefined) {
    listener.onHere?.();
    const tensors = await readHeader(single);
    listener.onOpen?.(SINGLE_FILE);
    return { files: [single], tensors };
  }
  const indexPath = await repo.file(INDEX_FILE);
  if (indexPath === undefined) {
    const way = (await repo.explain?.()) || 'A complete one has either file beside its config.json';
    throw new HubError(
      `${repo.id} has no weights: neither ${SINGLE_FILE} nor ${INDEX_FILE}. Only safetensors checkpoints load. ${way}`,
    );
  }
  const index = await readShardIndex(indexPath);
  await listener.onFiles?.(index.shards);
  const files = await shardFiles(repo, indexPath, index);
  listener.onHere?.();
  const tensors = await readShards(files, indexPath, index, listener);
  checkIndex(tensors, indexPath, index, files);
  return { files, tensors };
}

export interface CheckpointListener {
  /** Names of the files, before those that are not here are fetched. */
  readonly onFiles?: (names: readonly string[]) => Promise<void>;
  /** All files are here, and their headers are to be read. */
  readonly onHere?: () => void;
  /** The name of a file whose header has been read and found sound. */
  readonly onOpen?: (name: string) => void;
}

/** Names of the files of a repo's weights, for which at most the index is fetched; none where it has no weights. */
export async function weightFileNames(repo: Repo): Promise<readonly string[]> {
  if (await repo.look?.(SINGLE_FILE)) return [SINGLE_FILE];
  const index = await repo.file(INDEX_FILE);
  return index === undefined ? [] : (await readShardIndex(index)).shards;
}

async function shardFiles(repo: Repo, indexPath: string, index: ShardIndex): Promise<string[]> {
  try {
    return await repo.requireAll(index.shards);
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    throw new HubError(`${indexPath} names shards that cannot be had: ${error.message}`, { cause: error });
  }
}

async function readShards(
  files: readonly string[],
  indexPath: string,
  { shards, shardOf }: ShardIndex,
  { onOpen }: CheckpointListener,
): Promise<Map<string, TensorInfo>> {
  const tensors = new Map<string, TensorInfo>();
  for (let first = 0; first < files.length; first += HEADERS_AT_ONCE) {
    const headers = await Promise.all(files.slice(first, first + HEADERS_AT_ONCE).map(readHeader));
    for (const [i, header] of headers.entries()) {
      const shard = shards[first + i] as string;
      merge(tensors, header, shard, shardOf);
      onOpen?.(shard);
    }
    if (tensors.size > MAX_TENSORS) {
      throw new CheckpointError(`${indexPath}: the shards hold more than ${MAX_TENSORS} tensors in all`);
    }
  }
  return tensors;
}

/** Adds the tensors of a shard. Where several shards hold one of the same name, the index says which is meant. */
function merge(
  tensors: Map<string, TensorInfo>,
  header: Map<string, TensorInfo>,
  shard: string,
  shardOf: ReadonlyMap<string, string>,
): void {
  for (const [name, tensor] of header) {
    const earlier = tensors.get(name);
    if (earlier !== undefined) {
      const meant = shardOf.get(name);
      if (meant === shard) tensors.set(name, tensor);
      if (meant !== undefined) continue;
      throw new CheckpointError(
        `"${name}" is stored twice: in ${earlier.file} and in ${shard}, and the index does not say which is meant`,
      );
    }
    tensors.set(name, tensor);
  }
}

function checkIndex(
  tensors: ReadonlyMap<string, TensorInfo>,
  indexPath: string,
  index: ShardIndex,
  files: readonly string[],
): void {
  const pathOf = new Map(index.shards.map((shard, i) => [shard, files[i]]));
  for (const [name, shard] of index.shardOf) {
    const found = tensors.get(name)?.file;
    if (found === pathOf.get(shard)) continue;
    const where = found === undefined ? 'no shard has it' : `it lies in ${found}`;
    throw new CheckpointError(
      `${indexPath}: "${name}" should be in ${shard}, but ${where}. Index and shards do not belong together; fetch both again`,
    );
  }
}
