import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { CheckpointError, EngineError } from '../../src/errors.ts';
import { largePageBytes } from '../../src/runtime/machine.ts';
import type { WeightStore } from '../../src/runtime/types.ts';
import { openWeightStore } from '../../src/runtime/weight-store.ts';
import type { TensorInfo } from '../../src/safetensors/types.ts';
import { privateDirty } from '../helpers/memory.ts';
import { pattern, temporaryFolder, type WeightDType, writeTensors } from './stored-tensors.ts';

const { folder, remove } = temporaryFolder();
afterAll(remove);

const stores: WeightStore[] = [];
afterEach(() => {
  for (const store of stores.splice(0)) store.dispose();
});
function open(tensors: readonly TensorInfo[], options?: { packed: boolean }): WeightStore {
  const store = openWeightStore(tensors, [], options);
  stores.push(store);
  return store;
}

describe('openWeightStore', () => {
  it.each<WeightDType>(['F32', 'F16', 'BF16'])('widens %s tensors, whatever their alignment', (dtype) => {
    const values = pattern(35);
    const store = open(
      writeTensors(join(folder, `${dtype}.bin`), [{ name: 'w', shape: [5, 7], values, dtype }]),
    );
    expect(store.readFloat32('w')).toEqual(values);
  });

  it('reads scalars and empty tensors', () => {
    const store = open(
      writeTensors(join(folder, 'edge.bin'), [
        { name: 'scalar', shape: [], values: Float32Array.of(0.5) },
        { name: 'empty', shape: [3, 0], values: new Float32Array(0) },
      ]),
    );
    expect([...store.readFloat32('scalar')]).toEqual([0.5]);
    expect(store.readFloat32('empty')).toHaveLength(0);
  });

  it('reads no numbers from an integer tensor', () => {
    const file = join(folder, 'int.bin');
    writeFileSync(file, new Uint8Array(8));
    const store = open([{ name: 'ids', file, offset: 0, byteLength: 8, dtype: 'I64', shape: [1] }]);
    expect(() => store.readFloat32('ids')).toThrow(/'ids' is not bfloat16, float16 or float32/);
  });

  it('gives every store handles of its own', () => {
    const values = { a: pattern(2, 1), b: pattern(2, 2) };
    const [one, two] = (['a', 'b'] as const).map((name) =>
      open(writeTensors(join(folder, `${name}.bin`), [{ name: 'w', shape: [2], values: values[name] }])),
    );
    expect(one?.readFloat32('w')).toEqual(values.a);
    one?.dispose();
    expect(two?.readFloat32('w')).toEqual(values.b);
  });

  it('suggests the nearest name for an unknown tensor', () => {
    const store = open(
      writeTensors(join(folder, 'names.bin'), [{ name: 'lm_head.weight', shape: [1], values: pattern(1) }]),
    );
    expect(() => store.handle('lm_head.wieght')).toThrow(EngineError);
    expect(() => store.handle('lm_head.wieght')).toThrow(/no tensor "lm_head.wieght".*mean "lm_head.weight"/);
  });

  it('refuses every use after dispose, which may be called twice', () => {
    const store = open(
      writeTensors(join(folder, 'gone.bin'), [{ name: 'w', shape: [1], values: pattern(1) }]),
    );
    store.dispose();
    store.dispose();
    expect(() => store.handle('w')).toThrow(/weight store is disposed/);
    expect(() => store.readFloat32('w')).toThrow(EngineError);
  });

  it('opens a file whose path is long and has letters of all kinds', () => {
    const deep = join(folder, 'weights — 重み', 'd'.repeat(200), 'e'.repeat(200));
    mkdirSync(deep, { recursive: true });
    const tensors = writeTensors(join(deep, 'w.bin'), [{ name: 'w', shape: [3], values: pattern(3) }]);
    expect(open(tensors).readFloat32('w')).toHaveLength(3);
  });

  it('names a file that does not exist', () => {
    const file = join(folder, 'absent.safetensors');
    const opening = () => open([{ name: 'w', file, offset: 0, byteLength: 4, dtype: 'F32', shape: [1] }]);
    expect(opening).toThrow(CheckpointError);
    expect(opening).toThrow(/absent\.safetensors: cannot open: (No such file|.*\(error 2\)$)/);
  });

  it('names file, tensor and both sizes when a file was truncated', () => {
    const file = join(folder, 'short.bin');
    const tensors = writeTensors(file, [{ name: 'w', shape: [4], values: pattern(4) }]);
    truncateSync(file, 10);
    expect(() => open(tensors)).toThrow(CheckpointError);
    expect(() => open(tensors)).toThrow(/short\.bin: tensor 'w' ends at byte 17, but the file has 10 bytes/);
  });

  it('accepts an empty file that no tensor has bytes in', () => {
    const file = join(folder, 'nothing.bin');
    writeFileSync(file, '');
    const store = open([{ name: 'w', file, offset: 0, byteLength: 0, dtype: 'F32', shape: [0] }]);
    expect(store.readFloat32('w')).toHaveLength(0);
  });

  it('reads zeros for a tensor of no file', () => {
    const values = pattern(3);
    const tensors = writeTensors(join(folder, 'beside.bin'), [{ name: 'w', shape: [3], values }]);
    const zeros = {
      name: 'zeros',
      file: '',
      offset: 0,
      byteLength: 20_000,
      dtype: 'BF16',
      shape: [10_000],
    } as const;
    const store = open([...tensors, zeros]);
    expect(store.readFloat32('zeros')).toEqual(new Float32Array(10_000));
    expect(store.readFloat32('w')).toEqual(values);
  });

  it('refuses a tensor whose shape does not fit its bytes', () => {
    const file = join(folder, 'shape.bin');
    writeFileSync(file, new Uint8Array(64));
    const entry = { name: 'w', file, offset: 0, byteLength: 12, dtype: 'BF16', shape: [2, 2] } as const;
    expect(() => open([entry])).toThrow(/tensor 'w' of shape \[2, 2\] needs 8 bytes, but its entry spans 12/);
  });

  it('refuses a name listed twice', () => {
    const file = join(folder, 'twice.bin');
    const [tensor] = writeTensors(file, [{ name: 'w', shape: [1], values: pattern(1) }]) as [TensorInfo];
    expect(() => open([tensor, tensor])).toThrow(/"w" is listed twice/);
  });

  it('knows each of 20,000 tensors', () => {
    const file = join(folder, 'many.bin');
    const values = pattern(20_000);
    writeTensors(file, [{ name: 'all', shape: [20_000], values }]);
    const store = open(
      Array.from(values, (_, i) => ({
        name: `model.layers.${i}.weight`,
        file,
        offset: 1 + 4 * i,
        byteLength: 4,
        dtype: 'F32' as const,
        shape: [1, 1],
      })),
    );
    expect(store.handle('model.layers.19999.weight')).not.toBe(store.handle('model.layers.0.weight'));
    expect(store.readFloat32('model.layers.12345.weight')[0]).toBe(values[12345]);
  });

  it.runIf(process.platform === 'linux')('adds no private memory for a 2 GB file, and reads its end', () => {
    const file = join(folder, 'sparse.bin');
    const size = 2 * 1024 ** 3 + 4096;
    const descriptor = openSync(file, 'w');
    ftruncateSync(descriptor, size);
    writeSync(descriptor, new Uint8Array(Float32Array.of(7).buffer), 0, 4, size - 4);
    closeSync(descriptor);
    const before = privateDirty();
    const store = open([
      { name: 'zeros', file, offset: 0, byteLength: size - 4096, dtype: 'F32', shape: [(size - 4096) / 4] },
      { name: 'end', file, offset: size - 4, byteLength: 4, dtype: 'F32', shape: [1] },
    ]);
    expect(store.readFloat32('end')[0]).toBe(7);
    expect(privateDirty() - before).toBeLessThan(20 * 1024 ** 2);
  });
});

/** Bytes of a mapped file that are mapped into this process's memory right now. */
const residentBytes = (file: string) => bytesOf(file, /^Rss:\s*(\d+) kB/m);

/** Bytes of this process's addresses that stand for a file. */
const mappedBytes = (file: string) => bytesOf(file, /^Size:\s*(\d+) kB/m);

function bytesOf(file: string, field: RegExp): number {
  const maps = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const own = maps.filter((map) => map.split('\n', 1)[0]?.endsWith(file));
  return own.reduce((sum, map) => sum + Number(field.exec(map)?.[1]) * 1024, 0);
}

describe.runIf(process.platform === 'linux')('prefetch', () => {
  const MIB = 2 ** 20;
  const sparse = (name: string, bytes: number): TensorInfo => {
    const file = join(folder, name);
    const descriptor = openSync(file, 'w');
    ftruncateSync(descriptor, bytes);
    closeSync(descriptor);
    return { name, file, offset: 0, byteLength: bytes / 2, dtype: 'BF16', shape: [bytes / 4] };
  };

  it('maps the tensors it is told, and no others', async () => {
    const wanted = sparse('wanted.bin', 64 * MIB);
    const other = sparse('other.bin', 64 * MIB);
    const store = open([wanted, other]);
    expect(residentBytes(wanted.file)).toBe(0);
    store.prefetch(['wanted.bin']);
    await expect.poll(() => residentBytes(wanted.file)).toBeGreaterThanOrEqual(32 * MIB);
    expect(residentBytes(other.file)).toBe(0);
  });

  it('may be ended by disposing the store, and asked for more than memory holds', () => {
    const store = open([sparse('ended.bin', 512 * MIB)]);
    store.prefetch(['ended.bin']);
    store.dispose();
    const huge = open([sparse('huge.bin', 2 ** 42)]);
    huge.prefetch(['huge.bin']);
    expect(residentBytes(join(folder, 'huge.bin'))).toBe(0);
  });
});

describe.runIf(process.platform === 'linux' && largePageBytes() > 0)('a packed store', () => {
  const COUNT = 1_500_000;
  const same = (store: WeightStore, name: string, values: Float32Array) =>
    Buffer.from(store.readFloat32(name).buffer).equals(Buffer.from(values.buffer));

  it('puts copies of the tensors it is told in the place of the file, and is read as before meanwhile', async () => {
    const file = join(folder, 'packed.bin');
    const values = pattern(COUNT);
    const tensors = ['wanted', 'other'].map((name) => ({ name, shape: [COUNT], values }));
    const store = open(writeTensors(file, tensors), { packed: true });
    expect(same(store, 'other', values)).toBe(true);
    store.prefetch(['wanted']);
    const rest = 4 * COUNT + 2 ** 16;
    await expect
      .poll(() => {
        expect(same(store, 'wanted', values)).toBe(true);
        return mappedBytes(file);
      })
      .toBeLessThan(rest);
    expect(same(store, 'wanted', values)).toBe(true);
    expect(same(store, 'other', values)).toBe(true);
  });

  it('still fails where the file was written to, and when it is more than memory holds', async () => {
    const file = join(folder, 'packed-changed.bin');
    const store = open(writeTensors(file, [{ name: 'w', shape: [COUNT], values: pattern(COUNT) }]), {
      packed: true,
    });
    store.prefetch(['w']);
    await expect.poll(() => mappedBytes(file)).toBe(0);
    truncateSync(file, 4 * COUNT);
    expect(() => store.readFloat32('w')).toThrow(CheckpointError);
    const descriptor = openSync(join(folder, 'packed-huge.bin'), 'w');
    ftruncateSync(descriptor, 2 ** 42);
    closeSync(descriptor);
    const tensor = { name: 'huge', file: join(folder, 'packed-huge.bin'), offset: 0, byteLength: 2 ** 42 };
    const huge = open([{ ...tensor, dtype: 'BF16', shape: [2 ** 41] }], { packed: true });
    expect(() => huge.prefetch(['huge'])).toThrow(/'packed' takes 4\.\d+ TB of this process's own memory/);
  });
});
