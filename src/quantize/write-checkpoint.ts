import { rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { makeFolder, replaceFile } from '../files.ts';
import { partialPath, removeLeftovers } from '../partial-paths.ts';
import { byteLength } from '../safetensors/writer.ts';
import { checkRoom, inWords } from './disk.ts';
import type { Unit } from './rounded-matrix.ts';
import { layOutUnits, type WriteOptions, writeUnits } from './write-file.ts';

/** Bytes of a shard, as transformers and the Hub have them. */
const SHARD_BYTES = 5e9;
const REMEDY = 'name a folder on another disk';

export interface CheckpointFiles {
  readonly units: readonly Unit[];
  /** Files besides the weights, by name. */
  readonly others: ReadonlyMap<string, string | Buffer>;
}

/**
 * Writes a checkpoint to a folder that does not exist or is empty: shards of safetensors with their index, and other files. It appears
 * there once it is complete.
 * @returns bytes of the weights
 * @throws EngineError where the disk lacks room or cannot be written; whatever tasks throw; AbortError
 */
export async function writeCheckpoint(
  folder: string,
  { units, others }: CheckpointFiles,
  options: WriteOptions & {
    readonly onTotal: (bytes: number) => void;
    readonly shardBytes?: number | undefined;
  },
): Promise<number> {
  const shards = shardsOf(units, options.shardBytes ?? SHARD_BYTES);
  const total = shards.reduce((sum, shard) => sum + layOutUnits(shard).bytes, 0);
  const partial = await partialPath(folder);
  await removeLeftovers(dirname(folder), basename(folder));
  try {
    await makeFolder(partial);
    await checkRoom(partial, total, REMEDY);
    options.onTotal(total);
    const weightMap: Record<string, string> = {};
    for (const [i, shard] of shards.entries()) {
      const name = nameOf(i, shards.length);
      await writeUnits(join(partial, name), shard, options);
      for (const { tensors } of shard) for (const tensor of tensors) weightMap[tensor.name] = name;
    }
    const index = { metadata: { total_size: sizeOf(units) }, weight_map: weightMap };
    if (shards.length > 1)
      await writeFile(join(partial, 'model.safetensors.index.json'), `${JSON.stringify(index, null, 2)}\n`);
    for (const [name, content] of others) await writeFile(join(partial, name), content);
    await replaceFile(partial, folder);
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => {});
    throw inWords(error, folder, total, REMEDY);
  }
  return total;
}

function nameOf(shard: number, count: number): string {
  if (count === 1) return 'model.safetensors';
  const padded = (n: number) => String(n).padStart(5, '0');
  return `model-${padded(shard + 1)}-of-${padded(count)}.safetensors`;
}

function shardsOf(units: readonly Unit[], most: number): Unit[][] {
  const shards: Unit[][] = [[]];
  let bytes = 0;
  for (const unit of units) {
    const own = sizeOf([unit]);
    if (bytes > 0 && bytes + own > most) {
      shards.push([]);
      bytes = 0;
    }
    (shards.at(-1) as Unit[]).push(unit);
    bytes += own;
  }
  return shards;
}

function sizeOf(units: readonly Unit[]): number {
  return units.reduce(
    (sum, { tensors }) => sum + tensors.reduce((part, tensor) => part + byteLength(tensor), 0),
    0,
  );
}
