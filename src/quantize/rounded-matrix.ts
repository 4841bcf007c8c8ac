/** One rounded matrix as tensors of compressed-tensors, and the work that fills them. */
import type { RoundRequest, WeightStore } from '../runtime/types.ts';
import { byteLength, type NewTensor } from '../safetensors/writer.ts';
import type { PlannedMatrix } from './plan.ts';

/** Puts bytes at a place within a tensor that is being written. */
export type Write = (tensor: string, offset: number, bytes: Uint8Array) => Promise<void>;

/** A part of the work; tasks of one file may run in any order, and several at a time. */
export interface Task {
  /** Bytes that it writes, about. */
  readonly bytes: number;
  run(write: Write): Promise<void>;
}

/** What becomes one or several tensors of a file, which belong together. */
export interface Unit {
  readonly tensors: readonly NewTensor[];
  tasks(): Iterable<Task>;
}

/** Weights of one task: few enough for memory, many enough for a thread. */
const TASK_WEIGHTS = 2 ** 20;
/** Rows whose zero points share words. */
const ROWS_AT_ONCE = 8;

/** @param store holds the source */
export function roundedMatrix({ name, source }: PlannedMatrix, store: WeightStore): Unit {
  const module = name.replace(/\.weight$/, '');
  const { rows, columns } = source;
  const step = Math.max(1, Math.floor(TASK_WEIGHTS / columns / ROWS_AT_ONCE)) * ROWS_AT_ONCE;
  const parts = partsOf(module, source);
  return {
    tensors: parts.map(({ tensor }) => tensor),
    *tasks() {
      for (let first = 0; first < rows; first += step)
        yield roundRows(source, first, Math.min(step, rows - first), parts, store);
    },
  };
}

/** Bytes that stay of a rounded matrix where it is computed with. */
export function roundedBytes({ name, source }: PlannedMatrix): number {
  const read = partsOf(name, source).filter(({ of }) => of !== 'shape');
  return read.reduce((sum, { tensor }) => sum + byteLength(tensor), 0);
}

/** A tensor of a rounded matrix, and which bytes of it some rows give. */
interface Part {
  readonly tensor: NewTensor;
  readonly of: 'codes' | 'scales' | 'zeros' | 'shape';
  /** Bytes of a row, or of the rows that share words. */
  readonly stride: number;
  /** Rows of such a stride. */
  readonly rows: number;
}

function partsOf(module: string, { rows, columns, scheme }: RoundRequest): Part[] {
  const part = (name: string, dtype: NewTensor['dtype'], shape: number[]) => ({
    name: `${module}.${name}`,
    dtype,
    shape,
  });
  if (scheme.bits === 8)
    return [
      { tensor: part('weight', 'I8', [rows, columns]), of: 'codes', stride: columns, rows: 1 },
      { tensor: part('weight_scale', 'F32', [rows, 1]), of: 'scales', stride: 4, rows: 1 },
    ];
  const groups = columns / scheme.group;
  const zeros = part('weight_zero_point', 'I32', [Math.ceil(rows / ROWS_AT_ONCE), groups]);
  return [
    { tensor: part('weight_packed', 'I32', [rows, columns / 8]), of: 'codes', stride: columns / 2, rows: 1 },
    { tensor: part('weight_scale', 'BF16', [rows, groups]), of: 'scales', stride: 2 * groups, rows: 1 },
    { tensor: part('weight_shape', 'I64', [2]), of: 'shape', stride: 0, rows: 1 },
    ...(scheme.zeroPoints
      ? [{ tensor: zeros, of: 'zeros', stride: 4 * groups, rows: ROWS_AT_ONCE } as const]
      : []),
  ];
}

function roundRows(
  source: RoundRequest,
  first: number,
  rows: number,
  parts: readonly Part[],
  store: WeightStore,
): Task {
  const { transposed = false, firstRow, firstColumn } = source;
  const request = {
    ...source,
    rows,
    firstRow: transposed ? firstRow : firstRow + first,
    firstColumn: transposed ? firstColumn + first : firstColumn,
  };
  return {
    bytes: (rows * source.columns * source.scheme.bits) / 8,
    async run(write) {
      const rounded = await store.round(request);
      for (const { tensor, of, stride, rows: atOnce } of parts) {
        if (of !== 'shape') await write(tensor.name, (first / atOnce) * stride, rounded[of]);
        else if (first === 0)
          await write(
            tensor.name,
            0,
            new Uint8Array(BigInt64Array.of(BigInt(source.rows), BigInt(source.columns)).buffer),
          );
      }
    },
  };
}
