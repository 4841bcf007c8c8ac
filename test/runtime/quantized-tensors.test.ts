/** Storages that no golden has, and descriptions that do not fit their parts. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { CheckpointError } from '../../src/errors.ts';
import type { WeightStore } from '../../src/runtime/types.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import type { TensorInfo } from '../../src/safetensors/types.ts';
import type { QuantizedTensor } from '../../src/weights/quantized-tensor.ts';
import { temporaryFolder } from './stored-tensors.ts';

const { folder, remove } = temporaryFolder();
afterAll(remove);
const stores: WeightStore[] = [];
afterEach(() => {
  for (const store of stores.splice(0)) store.dispose();
});

type Stored = Uint32Array | Int32Array | Float32Array | Uint8Array;
const DTYPES = new Map<unknown, TensorInfo['dtype']>([
  [Uint32Array, 'U32'],
  [Int32Array, 'I32'],
  [Float32Array, 'F32'],
  [Uint8Array, 'U8'],
]);
let files = 0;

/** Writes a tensor into a file of its own, one byte in. */
function part(name: string, values: Stored, shape: readonly number[] = [values.length]): TensorInfo {
  const file = join(folder, `part-${files++}.bin`);
  writeFileSync(file, Buffer.concat([new Uint8Array(1), new Uint8Array(values.buffer)]));
  const dtype = DTYPES.get(values.constructor) as TensorInfo['dtype'];
  return { name, file, offset: 1, byteLength: values.byteLength, dtype, shape };
}

function open(...quantized: QuantizedTensor[]): WeightStore {
  const store = openWeightStore([], quantized);
  stores.push(store);
  return store;
}

const read = (tensor: QuantizedTensor) => [...open(tensor).readFloat32(tensor.name)];

/** Numbers below `end` in no visible order. */
function numbers(count: number, end: number, seed = 7): number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 16) % end;
  });
}

/** `[rows, columns]` of codes as words, each row a stream of bits that begins at a word. */
function streams(codes: readonly number[], columns: number, bits: number): Uint32Array {
  const perRow = Math.ceil((columns * bits) / 32);
  const words = new Uint32Array((codes.length / columns) * perRow);
  codes.forEach((code, i) => {
    for (let bit = 0; bit < bits; bit++) {
      const at = (i % columns) * bits + bit;
      const word = Math.floor(i / columns) * perRow + (at >> 5);
      words[word] = ((words[word] as number) | (((code >> bit) & 1) << (at & 31))) >>> 0;
    }
  });
  return words;
}

/** The same with rows and columns exchanged. */
function turned(values: readonly number[], columns: number): number[] {
  const rows = values.length / columns;
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)] as number);
}

const ROWS = 16;
const COLUMNS = 32;
const GROUP = 16;
const codes = numbers(ROWS * COLUMNS, 16);
const scales = numbers((ROWS * COLUMNS) / GROUP, 8, 3).map((value) => (value + 1) / 16);
const zeros = numbers((ROWS * COLUMNS) / GROUP, 16, 5);
const groupOf = (i: number) => Math.floor(i / GROUP);
const scaleParts = {
  rows: { tensor: part('scales', Float32Array.from(scales)), type: 'float', group: [1, GROUP] },
  columns: {
    tensor: part('scales', Float32Array.from(turned(scales, COLUMNS / GROUP))),
    type: 'float',
    group: [1, GROUP],
    transposed: true,
  },
} as const;

const base: QuantizedTensor = {
  name: 'w',
  shape: [ROWS, COLUMNS],
  codes: { tensor: part('codes', streams(codes, COLUMNS, 4)), type: 'uint', bits: 4, order: 'rows' },
  scales: scaleParts.rows,
};

describe('quantized tensors', () => {
  it.each([2, 3, 4, 5, 6, 8])('reads rows of %i bits a code, of whole words or bytes', (bits) => {
    const columns = 29;
    const codes = numbers(3 * columns, 2 ** bits);
    const words = streams(codes, columns, bits);
    const perRow = words.byteLength / 3;
    const bytes = new Uint8Array(words.buffer);
    const inBytes = [0, 1, 2].flatMap((row) => [
      ...bytes.subarray(row * perRow, row * perRow + Math.ceil((columns * bits) / 8)),
    ]);
    for (const stored of [words, Uint8Array.from(inBytes)]) {
      const tensor = {
        name: 'w',
        shape: [3, columns],
        codes: { tensor: part('codes', stored), type: 'uint', bits, order: 'rows' },
        scales: { tensor: part('scale', Float32Array.of(0.5)), type: 'float', group: [3, columns] },
        zero: 2 ** (bits - 1),
      } as const;
      expect(read(tensor)).toEqual(codes.map((code) => (code - 2 ** (bits - 1)) / 2));
    }
  });

  it.each([
    ['rows', false],
    ['columns', false],
    ['columns', true],
  ] as const)('subtracts zero points packed by %s (less one: %s)', (order, lessOne) => {
    const perGroup = turned(zeros, COLUMNS / GROUP);
    // Words of `rows` hold neighbouring rows too: they are the words of `columns`, exchanged.
    let words = [...streams(perGroup, ROWS, 4)];
    if (lessOne) words = words.map((word) => (word - 0x11111111) >>> 0);
    if (order === 'rows') words = turned(words, ROWS / 8);
    const tensor = part('zeros', Uint32Array.from(words));
    const expected = codes.map(
      (code, i) => (code - (zeros[groupOf(i)] as number)) * (scales[groupOf(i)] as number),
    );
    expect(read({ ...base, zero: { tensor, order, lessOne } })).toEqual(expected);
  });

  it('reads words down the columns, with the groups of columns that a permutation names', () => {
    const groups = numbers(COLUMNS, 2, 11);
    const words = [...streams(codes, COLUMNS, 4)];
    const tensor: QuantizedTensor = {
      ...base,
      codes: {
        tensor: part('codes', Uint32Array.from(turned(words, COLUMNS / 8))),
        type: 'uint',
        bits: 4,
        order: 'columns',
      },
      scales: scaleParts.columns,
      columnGroups: part('g_idx', Int32Array.from(groups)),
    };
    const expected = codes.map((code, i) => {
      const group = Math.floor(i / COLUMNS) * 2 + (groups[i % COLUMNS] as number);
      return code * (scales[group] as number);
    });
    expect(read(tensor)).toEqual(expected);
  });

  it('keeps blocks of scales apart between stacked matrices', () => {
    // Of 3 rows each: the second row of blocks is half a block.
    const blocks = [1, 2, 3, 4];
    const tensor: QuantizedTensor = {
      name: 'w',
      shape: [2, 3, 2],
      codes: { tensor: part('codes', new Uint8Array(12).fill(1)), type: 'int', bits: 8, order: 'rows' },
      scales: { tensor: part('scales', Float32Array.from(blocks)), type: 'float', group: [2, 128] },
    };
    expect(read(tensor)).toEqual([1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4]);
  });

  it('counts groups of elements on from row to row', () => {
    const tensor: QuantizedTensor = {
      name: 'w',
      shape: [2, 3],
      codes: {
        tensor: part('codes', Uint8Array.of(0x12, 0x34, 0x56)),
        type: 'uint',
        bits: 4,
        order: 'rows_high_first',
      },
      scales: { tensor: part('scales', Float32Array.of(1, 10)), type: 'float', group: 4, divisor: 10 },
    };
    expect(read(tensor).map((value) => Math.fround(value * 10))).toEqual([1, 2, 3, 4, 50, 60]);
  });

  it.each([
    [
      'codes of another size',
      { shape: [ROWS, COLUMNS + 1] },
      /tensor 'codes' of shape \[64\] has 256 bytes; the codes of 'w' \[16, 33\] take 272/,
    ],
    ['an impossible shape', { shape: [2 ** 40, 2 ** 40] }, /'w' has an impossible shape/],
    ['bits that no kernel knows', { codes: { ...base.codes, bits: 7 } }, /'w' has codes of 7 bits/],
    [
      'groups that call for more scales',
      { scales: { ...base.scales, group: [1, 8] } },
      /tensor 'scales' .* the scales of 'w' .* take 256/,
    ],
    [
      'groups of no columns',
      { scales: { ...base.scales, group: [1, 0] } },
      /'w' has groups of an impossible size/,
    ],
    ['half a group', { scales: { ...base.scales, group: [1, 0.5] } }, /'w' has an impossible number/],
    ['a zero point out of range', { zero: 17 }, /'w' has a zero point of 17/],
    [
      'zero points of another size',
      { zero: { tensor: base.scales.tensor, order: 'rows' } },
      /the zero points of 'w' .* take 16/,
    ],
    [
      'biases of another type',
      { biases: part('b', new Int32Array(32)) },
      /tensor 'b' is of a type that biases cannot have/,
    ],
    [
      'column groups that do not exist',
      { columnGroups: part('g_idx', new Int32Array(COLUMNS).fill(2)) },
      /tensor 'g_idx' puts column 0 into group 2, but there are 2 groups/,
    ],
    [
      'a divisor of several numbers',
      { scales: { ...base.scales, divisor: part('d', new Float32Array(2)) } },
      /tensor 'd' .* has 8 bytes; the divisor of the scales of 'w'/,
    ],
  ] as const)('refuses %s', (_, changes, message) => {
    const opening = () => open({ ...base, ...(changes as Partial<QuantizedTensor>) });
    expect(opening).toThrow(message);
    if (!String(message).includes('impossible number')) expect(opening).toThrow(CheckpointError);
  });

  it('finds scales that are no finite numbers', async () => {
    const tensor = part(
      'scales',
      Float32Array.from(scales, (value, i) => (i === 9 ? Number.NaN : value)),
    );
    const store = open({ ...base, scales: { ...base.scales, tensor } });
    await expect(store.checkScales(['w'])).rejects.toThrow(
      /tensor 'scales' has a value that is no finite number, NaN, at place 9; .*fetch it again/,
    );
    await expect(open(base).checkScales(['w'])).resolves.toBeUndefined();
  });

  it.each([
    ['multiplier', Number.NaN, 'NaN'],
    ['multiplier', Number.NEGATIVE_INFINITY, '-infinity'],
    ['divisor', 0, '0'],
    ['divisor', Number.NaN, 'NaN'],
  ])('finds a %s of all scales that is %d', async (role, value, text) => {
    const factor = part('weight_global_scale', Float32Array.of(value));
    const store = open({ ...base, scales: { ...base.scales, [role]: factor } });
    await expect(store.checkScales(['w'])).rejects.toThrow(
      `tensor 'weight_global_scale' is ${text}, with which the scales of 'w' are no finite numbers`,
    );
  });

  it('finds a multiplier that leaves the largest of float8 scales no finite number', async () => {
    const tensor: TensorInfo = {
      ...part('scales', new Uint8Array(scales.length).fill(0x38)),
      dtype: 'F8_E4M3',
    };
    const multipliedBy = (value: number) => {
      const multiplier = part('weight_scale_2', Float32Array.of(value));
      return open({ ...base, scales: { ...base.scales, tensor, multiplier } }).checkScales(['w']);
    };
    await expect(multipliedBy(1e37)).rejects.toThrow(/tensor 'weight_scale_2' is 1e\+37/);
    await expect(multipliedBy(1e30)).resolves.toBeUndefined();
    // Weights that are all zero have such a one.
    await expect(multipliedBy(0)).resolves.toBeUndefined();
  });

  it('lets scales be zero, but not where our own rounding wrote them', async () => {
    const tensor = part(
      'scales',
      Float32Array.from(scales, (value, i) => (i === 3 ? -0 : value)),
    );
    const store = open({ ...base, scales: { ...base.scales, tensor } });
    await expect(store.checkScales(['w'])).resolves.toBeUndefined();
    await expect(store.checkScales(['w'], false)).rejects.toThrow(
      /tensor 'scales' has a scale of -0 at place 3/,
    );
  });

  it('knows quantized and plain tensors by one set of names', () => {
    const plain = part('w', new Float32Array(2));
    expect(() => openWeightStore([plain], [base])).toThrow(/"w" is listed twice/);
    const store = openWeightStore([{ ...plain, name: 'v' }], [base]);
    stores.push(store);
    expect(store.readFloat32('v')).toHaveLength(2);
    expect(store.handle('w')).not.toBe(store.handle('v'));
  });
});
