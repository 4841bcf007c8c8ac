import { open, stat } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { CheckpointError } from '../errors.ts';
import { reading } from '../files.ts';
import { MAX_JSON_DEPTH } from '../json.ts';
import { JsonCursor, JsonSyntaxError } from '../json-cursor.ts';
import { lfsPointerSize } from './lfs-pointer.ts';
import { MAX_INDEX_BYTES, MAX_NAME_BYTES, MAX_SHARDS, MAX_TENSORS } from './limits.ts';

const ENTRIES_PER_TURN = 4096;

/** `weight_map` of model.safetensors.index.json. */
export interface ShardIndex {
  /** Tensor name → file name of its shard, inside the index's folder. */
  readonly shardOf: ReadonlyMap<string, string>;
  /** File names of the shards, each once, sorted. */
  readonly shards: readonly string[];
}

/**
 * Reads and checks a shard index. Everything but `weight_map` is ignored: real indexes lack `metadata` or have a wrong
 * `total_size`.
 *
 * @throws CheckpointError that names the file and the entry
 */
export async function readShardIndex(file: string): Promise<ShardIndex> {
  return parseShardIndex(await reading(file, () => readBounded(file)), file);
}

/** As `readShardIndex`, from bytes; `file` is for messages. */
export async function parseShardIndex(bytes: Uint8Array, file: string): Promise<ShardIndex> {
  const cursor = new JsonCursor(bytes);
  try {
    const shardOf = await readTop(cursor, file);
    const shards = [...new Set(shardOf.values())].sort();
    if (shards.length > MAX_SHARDS) {
      throw new CheckpointError(
        `${file}: "weight_map" names ${shards.length} files; the limit is ${MAX_SHARDS}`,
      );
    }
    return { shardOf, shards };
  } catch (error) {
    if (!(error instanceof JsonSyntaxError)) throw error;
    throw new CheckpointError(
      `${file} is not a valid index near byte ${cursor.position}: ${error.message}. Fetch the file again`,
      { cause: error },
    );
  }
}

async function readBounded(file: string): Promise<Buffer> {
  const { size } = await stat(file);
  if (size > MAX_INDEX_BYTES) {
    throw new CheckpointError(`${file} has ${size} bytes; the limit for an index is ${MAX_INDEX_BYTES}`);
  }
  const handle = await open(file, 'r');
  try {
    if ((await lfsPointerSize(handle, size)) !== undefined) {
      throw new CheckpointError(
        `${file} is a Git LFS pointer, not the file itself. Run "git lfs pull" in its folder`,
      );
    }
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

async function readTop(cursor: JsonCursor, file: string): Promise<ReadonlyMap<string, string>> {
  let shardOf: ReadonlyMap<string, string> | undefined;
  cursor.skipByteOrderMark();
  cursor.expect('{');
  if (!cursor.accept('}')) {
    do {
      const key = cursor.readString(MAX_NAME_BYTES);
      cursor.expect(':');
      if (key !== 'weight_map') cursor.skipValue(MAX_JSON_DEPTH);
      else if (shardOf !== undefined) throw new CheckpointError(`${file}: "weight_map" is listed twice`);
      else shardOf = await readWeightMap(cursor, file);
    } while (cursor.accept(','));
    cursor.expect('}');
  }
  if (cursor.peek() !== undefined) throw new JsonSyntaxError('text follows the closing brace');
  if (shardOf === undefined || shardOf.size === 0) {
    const state = shardOf === undefined ? 'there is no "weight_map"' : '"weight_map" is empty';
    throw new CheckpointError(`${file}: ${state}, so no tensor can be found. Fetch the file again`);
  }
  return shardOf;
}

async function readWeightMap(cursor: JsonCursor, file: string): Promise<ReadonlyMap<string, string>> {
  const shardOf = new Map<string, string>();
  const names = new Map<string, string>();
  if (cursor.peek() !== 0x7b)
    throw new CheckpointError(
      `${file}: "weight_map" is no object; expected names of tensors with their files`,
    );
  cursor.expect('{');
  if (cursor.accept('}')) return shardOf;
  do {
    const tensor = cursor.readString(MAX_NAME_BYTES);
    cursor.expect(':');
    if (cursor.peek() !== 0x22)
      throw new CheckpointError(`${file}: "weight_map" of "${tensor}" is no text; expected a file name`);
    const shard = cursor.readString(MAX_NAME_BYTES);
    if (shardOf.has(tensor)) throw new CheckpointError(`${file}: "weight_map" lists "${tensor}" twice`);
    if (shardOf.size >= MAX_TENSORS) {
      throw new CheckpointError(`${file}: "weight_map" lists more than ${MAX_TENSORS} tensors`);
    }
    // One string per shard, not one per tensor.
    let name = names.get(shard);
    if (name === undefined) {
      name = checkShardName(shard, tensor, file);
      names.set(name, name);
    }
    shardOf.set(tensor, name);
    if (shardOf.size % ENTRIES_PER_TURN === 0) await turn();
  } while (cursor.accept(','));
  cursor.expect('}');
  return shardOf;
}

function checkShardName(shard: string, tensor: string, file: string): string {
  const leaves =
    shard.startsWith('/') || shard.includes('\\') || shard.includes('\0') || /^[a-z]:/i.test(shard);
  if (leaves || shard.split('/').some((part) => part === '' || part === '.' || part === '..')) {
    throw new CheckpointError(
      `${file}: "weight_map" of "${tensor}" is ${JSON.stringify(shard)}, which is not a file inside the model's folder`,
    );
  }
  if (!shard.endsWith('.safetensors')) {
    throw new CheckpointError(
      `${file}: "weight_map" of "${tensor}" is ${JSON.stringify(shard)}; only .safetensors files are read`,
    );
  }
  return shard;
}
