/** Kept sequences in files: safetensors with the tensors of a row, its ids, and what tells whose they are. */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, rm, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { z } from 'zod';
import { ELEMENT_TYPES } from '../dtype.ts';
import { CheckpointError, EngineError } from '../errors.ts';
import { reading, replaceFile } from '../files.ts';
import { partialPath, removeLeftovers } from '../partial-paths.ts';
import { readHeader } from '../safetensors/header.ts';
import { readTensors } from '../safetensors/read-tensors.ts';
import type { TensorInfo } from '../safetensors/types.ts';
import { layOut, type NewTensor, type TensorPlace } from '../safetensors/writer.ts';
import type { TokenKey } from './cache/prefix-tree.ts';
import type { RowPart } from './cache/row-parts.ts';
import type { KeptSequence, KeptSequences } from './kept-sequences.ts';

/** What the keys and values of a token depend on, besides the tokens. */
export interface ModelIdentity {
  readonly modelType: string;
  /** Hash of the config in force. */
  readonly config: string;
  /** Hash of the weights' names, types and shapes, and of samples of them. */
  readonly weights: string;
}

/** The model that a file is for. */
export interface CacheOwner {
  readonly identity: ModelIdentity;
  /** Name of the model, for messages. */
  readonly name: string;
  readonly vocabSize: number;
  readonly contextLength: number;
}

const FORMAT = 'moe-switchyard cache';
const VERSION = 1;
const ABOUT = 'about';
const IDS = 'ids';
const KEYS = 'keys';
const CHECKSUM = 'sha256';
const CHECKSUM_BYTES = 32;

const about = z.object({
  format: z.literal(FORMAT),
  version: z.number(),
  identity: z.object({ modelType: z.string(), config: z.string(), weights: z.string() }),
  computed: z.number().int().nonnegative(),
});

/**
 * Writes a kept sequence to a file, all or nothing; memory holds one tensor at a time.
 * @throws EngineError where the file cannot be written
 */
export async function saveCache(
  path: string,
  sequences: KeptSequences,
  kept: KeptSequence,
  { identity }: CacheOwner,
): Promise<void> {
  // A rename would put the file in a device's place.
  const there = await stat(path).catch(() => undefined);
  if (there && !there.isFile())
    throw new EngineError(
      `the cache cannot be saved: ${path} is ${there.isDirectory() ? 'a folder' : 'a pipe, socket or device'}. Choose another file`,
    );
  const { ids, keys, computed } = kept;
  const parts = sequences.partsOf(computed);
  const texts = {
    [ABOUT]: Buffer.from(JSON.stringify({ format: FORMAT, version: VERSION, identity, computed })),
    // Only of pictures there is more to say than ids do.
    [KEYS]: Buffer.from(keys.every((key, i) => key === ids[i]) ? '' : JSON.stringify(keys)),
  };
  const bytes = (name: string, { length }: Uint8Array): NewTensor => ({ name, dtype: 'U8', shape: [length] });
  const tensors: NewTensor[] = [
    ...parts.map(({ name, dtype, dims }) => ({ name, dtype: ELEMENT_TYPES[dtype].safetensors, shape: dims })),
    { name: IDS, dtype: 'I64', shape: [ids.length] },
    ...Object.entries(texts).map(([name, text]) => bytes(name, text)),
    { name: CHECKSUM, dtype: 'U8', shape: [CHECKSUM_BYTES] },
  ];
  const { header, places, bytes: size } = layOut(tensors, { format: 'pt' });
  const partial = await partialPath(path);
  await removeLeftovers(dirname(path), basename(path));
  const hash = createHash('sha256');
  try {
    const file = await open(partial, 'wx');
    try {
      await file.truncate(size);
      await writeAll(file, header, 0);
      const write = async (name: string, data: Uint8Array) => {
        if (name !== CHECKSUM) addTo(hash, name, data);
        await writeAll(file, data, (places.get(name) as TensorPlace).offset);
      };
      for (const [name, text] of Object.entries(texts)) await write(name, text);
      await write(IDS, asBytes(BigInt64Array.from(ids, BigInt)));
      for (const part of parts) await write(part.name, await sequences.read(kept, part));
      await write(CHECKSUM, hash.digest());
      await file.sync();
    } finally {
      await file.close();
    }
    await replaceFile(partial, path);
  } catch (error) {
    await rm(partial, { force: true }).catch(() => {});
    const { syscall, code } = error as NodeJS.ErrnoException;
    if (syscall === undefined) throw error;
    throw new EngineError(
      `the cache cannot be saved: ${path} cannot be written (${code}). Free some space there, or choose another file`,
      { cause: error },
    );
  }
}

/**
 * Reads a kept sequence from a file that this model has written.
 * @throws CheckpointError for a file that is damaged, or of another model; HubError where it cannot be read; EngineError without room
 */
export async function loadCache(
  path: string,
  sequences: KeptSequences,
  owner: CacheOwner,
): Promise<KeptSequence> {
  const tensors = await readHeader(path);
  const fault = (reason: string) => new CheckpointError(`${path} is no cache of ${owner.name}: ${reason}`);
  const small = [ABOUT, KEYS, IDS, CHECKSUM].map((name) => tensors.get(name));
  const missing = [ABOUT, KEYS, IDS, CHECKSUM].find((_, i) => small[i] === undefined);
  if (missing !== undefined)
    throw fault(`it has no tensor "${missing}", which every file of Cache.save has. Pass one of those`);
  const [aboutBytes, keysBytes, idsBytes, checksum] = (await readTensors(small as TensorInfo[])) as Four;
  const { computed } = readAbout(aboutBytes, owner, fault);
  const ids = readIds(tensors.get(IDS) as TensorInfo, idsBytes, owner, fault);
  const keys = readKeys(keysBytes, ids, fault);
  if (computed > ids.length)
    throw fault(`it says that ${computed} tokens are computed, but it has ${ids.length}`);
  const parts = sequences.partsOf(computed);
  checkParts(tensors, parts, fault);
  const hash = createHash('sha256');
  addTo(hash, ABOUT, aboutBytes);
  addTo(hash, KEYS, keysBytes);
  addTo(hash, IDS, idsBytes);
  const kept = await sequences.make(ids, keys, computed);
  try {
    const file = await reading(path, () => open(path));
    try {
      for (const part of parts) {
        const data = await readWhole(file, tensors.get(part.name) as TensorInfo);
        addTo(hash, part.name, data);
        await sequences.write(kept, part, data);
      }
    } finally {
      await file.close();
    }
    if (!hash.digest().equals(checksum))
      throw new CheckpointError(
        `${path} is damaged: its contents do not have the checksum that was written with them. Save the cache again`,
      );
    return kept;
  } catch (error) {
    sequences.release(kept);
    throw error;
  }
}

type Four = [Buffer, Buffer, Buffer, Buffer];
type Fault = (reason: string) => CheckpointError;

function readAbout(bytes: Buffer, { identity }: CacheOwner, fault: Fault): z.infer<typeof about> {
  const parsed = about.safeParse(parseJson(bytes));
  if (!parsed.success) throw fault(`its tensor "${ABOUT}" is not what Cache.save writes`);
  const { version, identity: found } = parsed.data;
  if (version !== VERSION)
    throw fault(
      `it is of version ${version}, and this release reads version ${VERSION}. Save the cache again`,
    );
  if (found.modelType !== identity.modelType)
    throw fault(`a ${found.modelType} has written it, and this is a ${identity.modelType}`);
  if (found.weights !== identity.weights) throw fault('a model with other weights has written it');
  if (found.config !== identity.config) throw fault('a model with another config.json has written it');
  return parsed.data;
}

function readIds(info: TensorInfo, bytes: Buffer, owner: CacheOwner, fault: Fault): number[] {
  if (info.dtype !== 'I64' || info.shape.length !== 1)
    throw fault(
      `its tensor "${IDS}" is ${info.dtype} of ${info.shape.length} dimensions; expected I64 of one`,
    );
  const count = bytes.length / 8;
  if (count > owner.contextLength)
    throw fault(`it has ${count} tokens, and the context holds ${owner.contextLength}`);
  const ids = Array.from({ length: count }, (_, i) => Number(bytes.readBigInt64LE(8 * i)));
  const place = ids.findIndex((id) => id < 0 || id >= owner.vocabSize);
  if (place >= 0)
    throw fault(`its token ${place} is ${ids[place]}, and ids go from 0 to ${owner.vocabSize - 1}`);
  return ids;
}

function readKeys(bytes: Buffer, ids: readonly number[], fault: Fault): readonly TokenKey[] {
  if (bytes.length === 0) return ids;
  const keys = z.array(z.union([z.number(), z.string()])).safeParse(parseJson(bytes));
  if (!keys.success || keys.data.length !== ids.length)
    throw fault(`its tensor "${KEYS}" is no list of as many keys as there are tokens`);
  return keys.data;
}

/** The tensors of layers must be those of this model, neither more nor fewer. */
function checkParts(tensors: ReadonlyMap<string, TensorInfo>, parts: readonly RowPart[], fault: Fault): void {
  for (const { name, dtype, dims } of parts) {
    const found = tensors.get(name);
    if (!found) throw fault(`it has no tensor "${name}"`);
    const wanted = ELEMENT_TYPES[dtype].safetensors;
    if (found.dtype !== wanted)
      throw fault(
        `"${name}" is ${found.dtype}, and this model keeps ${wanted}. Load the model with that cacheDtype`,
      );
    if (found.shape.join() !== dims.join())
      throw fault(`"${name}" has the shape [${found.shape.join(', ')}]; expected [${dims.join(', ')}]`);
  }
  const known = new Set([...parts.map(({ name }) => name), ABOUT, KEYS, IDS, CHECKSUM]);
  const stray = [...tensors.keys()].find((name) => !known.has(name));
  if (stray !== undefined) throw fault(`it has a tensor "${stray}" too many`);
}

function addTo(hash: Hash, name: string, data: Uint8Array): void {
  hash.update(`${name} ${data.byteLength}\n`).update(data);
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
}

function asBytes({ buffer, byteOffset, byteLength }: BigInt64Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

async function readWhole(file: FileHandle, { offset, byteLength, file: path }: TensorInfo): Promise<Buffer> {
  const bytes = Buffer.alloc(byteLength);
  for (let done = 0; done < byteLength; ) {
    const { bytesRead } = await reading(path, () => file.read(bytes, done, byteLength - done, offset + done));
    if (bytesRead === 0) throw new CheckpointError(`${path} has become shorter while it was read`);
    done += bytesRead;
  }
  return bytes;
}

async function writeAll(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    const { bytesWritten } = await file.write(data, done, data.length - done, position + done);
    done += bytesWritten;
  }
}
