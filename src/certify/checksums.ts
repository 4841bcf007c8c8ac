/** SHA-256 of a checkpoint: of its files, and of every tensor in them, so that a difference has a name. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { basename } from 'node:path';
import { reading } from '../files.ts';
import type { TensorInfo } from '../safetensors/types.ts';

export interface Checksums {
  /** By file name: of all bytes, in hexadecimal. */
  readonly files: Readonly<Record<string, string>>;
  /** By the name in the file: the first 16 digits, of the tensor's bytes. */
  readonly tensors: Readonly<Record<string, string>>;
}

const TENSOR_DIGITS = 16;

/** Reads every file once. */
export async function checksumsOf(
  files: readonly string[],
  tensors: Iterable<TensorInfo>,
  signal: AbortSignal,
): Promise<Checksums> {
  const found = { files: {} as Record<string, string>, tensors: {} as Record<string, string> };
  const stored = [...tensors];
  for (const file of files) {
    const inside = stored.filter((tensor) => tensor.file === file).sort((a, b) => a.offset - b.offset);
    found.files[basename(file)] = await reading(file, () => hashFile(file, inside, found.tensors, signal));
  }
  return found;
}

/** @param tensors of the file by ascending offset, without overlaps: the header was checked */
async function hashFile(
  file: string,
  tensors: readonly TensorInfo[],
  digests: Record<string, string>,
  signal: AbortSignal,
): Promise<string> {
  const whole = createHash('sha256');
  let next = 0;
  let own = createHash('sha256');
  let position = 0;
  const finish = (tensor: TensorInfo) => {
    digests[tensor.storedName ?? tensor.name] = own.digest('hex').slice(0, TENSOR_DIGITS);
    own = createHash('sha256');
    next++;
  };
  for await (const piece of createReadStream(file, {
    highWaterMark: 2 ** 20,
    signal,
  }) as AsyncIterable<Buffer>) {
    whole.update(piece);
    const end = position + piece.length;
    for (let tensor = tensors[next]; tensor && tensor.offset < end; tensor = tensors[next]) {
      const last = tensor.offset + tensor.byteLength;
      own.update(
        piece.subarray(Math.max(0, tensor.offset - position), Math.min(piece.length, last - position)),
      );
      if (last > end) break;
      finish(tensor);
    }
    position = end;
  }
  // Those without elements at the end of the file.
  for (let tensor = tensors[next]; tensor; tensor = tensors[next]) finish(tensor);
  return whole.digest('hex');
}

/** What differs, a sentence each. What only one side has a sum of is not compared, but for tensors where both have some. */
export function differingChecksums(here: Checksums, there: Partial<Checksums>): string[] {
  const faults: string[] = [];
  for (const [name, sum] of Object.entries(there.tensors ?? {})) {
    const own = here.tensors[name];
    if (own === undefined) faults.push(`tensor "${name}" of the reference is not here`);
    else if (own !== sum)
      faults.push(`tensor "${name}" has other bytes than in the reference (SHA-256 ${own}…, there ${sum}…)`);
  }
  if (faults.length > 0) return faults;
  for (const [name, sum] of Object.entries(there.files ?? {})) {
    const own = here.files[name];
    if (own !== undefined && own !== sum)
      faults.push(`${name} has other bytes than in the reference (SHA-256 ${own}, there ${sum})`);
  }
  return faults;
}
