import { CheckpointError } from '../../errors.ts';
import type { TensorInfo } from '../../safetensors/types.ts';

/** The tensors of one module of a checkpoint that may be quantized. */
export class StoredModule {
  /** As the model knows it. */
  readonly name: string;
  readonly #parts = new Map<string, TensorInfo>();
  readonly #values = new Map<string, Buffer>();

  constructor(name: string) {
    this.name = name;
  }

  add(part: string, tensor: TensorInfo): void {
    this.#parts.set(part, tensor);
  }

  /** Keeps the bytes of a part. */
  keep(part: string, bytes: Buffer): void {
    this.#values.set(part, bytes);
  }

  find(part: string): TensorInfo | undefined {
    return this.#parts.get(part);
  }

  get parts(): ReadonlyMap<string, TensorInfo> {
    return this.#parts;
  }

  /** The module's name in the file, by which settings call it: of any of its tensors, without the part. */
  get storedName(): string {
    for (const [part, tensor] of this.#parts) {
      const name = storedName(tensor);
      if (name.endsWith(part)) return name.slice(0, name.length - part.length);
    }
    return this.name;
  }

  /** @throws CheckpointError where there is none, naming it and the tensor that calls for it */
  need(part: string, neededBy: TensorInfo): TensorInfo {
    const tensor = this.#parts.get(part);
    if (tensor) return tensor;
    const name = `${this.storedName}${part}`;
    throw new CheckpointError(
      `${neededBy.file}: ${name} is missing, without which ${describe(neededBy)} cannot be read. Download the checkpoint again`,
    );
  }

  /** The bytes of a part that the reader listed among its `values`. */
  bytes(part: string): Buffer {
    return this.#values.get(part) ?? Buffer.alloc(0);
  }
}

function storedName({ name, storedName }: TensorInfo): string {
  return storedName ?? name;
}

/** A tensor in words: name, dtype and shape. */
function describe(tensor: TensorInfo): string {
  return `${storedName(tensor)} (${tensor.dtype} [${tensor.shape}])`;
}

/** The error of a tensor that does not fit: file, name, dtype, shape, and what is wrong with it. */
export function misfit(tensor: TensorInfo, reason: string): CheckpointError {
  return new CheckpointError(`${tensor.file}: ${describe(tensor)} ${reason}`);
}

/** @throws CheckpointError unless a tensor has one of these element types */
export function expectDtype(tensor: TensorInfo, dtypes: readonly TensorInfo['dtype'][]): void {
  if (!dtypes.includes(tensor.dtype)) throw misfit(tensor, `should be ${dtypes.join(', ')}`);
}

/** @throws CheckpointError unless a tensor has this many elements, however its shape writes them */
export function expectCount(tensor: TensorInfo, sizes: readonly number[], why: string): void {
  if (countOf(tensor.shape) !== countOf(sizes)) throw misfit(tensor, `should be [${sizes}]: ${why}`);
}

/** Rows and columns of a matrix. @throws CheckpointError for a tensor of another rank */
export function matrixOf(tensor: TensorInfo): [rows: number, columns: number] {
  const [rows, columns, ...more] = tensor.shape;
  if (rows === undefined || columns === undefined || more.length > 0)
    throw misfit(tensor, 'should be a matrix');
  return [rows, columns];
}

export function countOf(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

/** How many groups of a size cover so many elements. */
export function groupsOf(elements: number, size: number): number {
  return Math.ceil(elements / size);
}
