export type SafetensorsDType =
  | 'BOOL'
  | 'U8'
  | 'I8'
  | 'F8_E5M2'
  | 'F8_E4M3'
  | 'F8_E8M0'
  | 'F8_E4M3FNUZ'
  | 'F8_E5M2FNUZ'
  | 'F4'
  | 'F6_E2M3'
  | 'F6_E3M2'
  | 'I16'
  | 'U16'
  | 'F16'
  | 'BF16'
  | 'I32'
  | 'U32'
  | 'F32'
  | 'F64'
  | 'C64'
  | 'I64'
  | 'U64';

/** `TensorInfo.file` of a tensor of zeros. */
export const ZEROS = '';

/** Where one tensor lies on disk. Nothing of it has been read. */
export interface TensorInfo {
  readonly name: string;
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
