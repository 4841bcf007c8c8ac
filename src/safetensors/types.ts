import type { SafetensorsDType } from '../dtype.ts';

/** `TensorInfo.file` of a tensor of zeros. */
export const ZEROS = '';

/** Where one tensor lies on disk. Nothing of it has been read. */
export interface TensorInfo {
  readonly name: string;
  /** Its name in the file, where the model calls it otherwise. */
  readonly storedName?: string;
  /** Absolute path of the shard, or `ZEROS` for a tensor that lies in no file. */
  readonly file: string;
  /** Absolute byte offset of the first element in the file. */
  readonly offset: number;
  readonly byteLength: number;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
}

/** The tensors of a checkpoint: every header validated, no tensor read. */
export interface Checkpoint {
  /** Absolute paths of the shards. */
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}
