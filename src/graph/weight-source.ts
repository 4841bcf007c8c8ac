/** What a graph needs to know about a stored tensor. */
export interface WeightInfo {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** How a weight is stored that is no plain tensor: what its codes are, and the bits of one. */
  readonly quantized?: { readonly type: string; readonly bits: number };
}

/** A weight as a model knows it, and the bytes that it takes in the files. */
export interface StoredWeight {
  readonly name: string;
  readonly shape: readonly number[];
  /** What its elements are stored as, such as `BF16` or `int4`. */
  readonly storage: string;
  readonly byteLength: number;
  /** Bytes on a GPU of one that is kept there as codes; all others are elements of the session's type. */
  readonly gpuBytes?: number;
  /** There for codes that activations rounded to int8 can meet on the CPU. */
  readonly meetsBytes?: true;
}

/** How large a weight is, whether it is there or is still to be made. */
export type SizedWeight = Pick<StoredWeight, 'name' | 'byteLength'>;

/** Where a graph finds its weights. Requests are recorded, so that one build of the graph is also the check of the load. */
export interface WeightSource {
  /** The tensor, without asking for it. */
  info(name: string): WeightInfo | undefined;
  /** Asks for a tensor of this shape. Undefined, and recorded as a fault, if it is missing or has another shape. */
  request(name: string, shape: readonly number[]): WeightInfo | undefined;
  handle(name: string): number;
  /** All elements of a small int64 tensor, asked for by its shape; undefined where it is not stored. */
  integers(name: string, shape: readonly number[]): readonly bigint[] | undefined;
  /** All elements, widened to fp32. For small tensors. */
  readFloat32(name: string): Float32Array;
}
