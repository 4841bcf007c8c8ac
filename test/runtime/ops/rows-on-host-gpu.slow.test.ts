import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Device } from '../../../src/runtime/device.ts';
import { Tensor } from '../../../src/runtime/ort.ts';
import { openWeightStore } from '../../../src/runtime/weight-store.ts';
import { useEmulatedGpu } from '../../helpers/emulated-gpu.ts';
import { int8 } from './int8-weight.ts';
import { elements, float, matrix, openOp, runOp, store, stored } from './run-op.ts';

const longs = (values: readonly number[]) =>
  new Tensor('int64', BigInt64Array.from(values, BigInt), [values.length]);

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('a table on the host, for an emulated GPU', () => {
  useEmulatedGpu();
  let device: Device;
  beforeAll(async () => {
    device = await Device.open();
  });
  afterAll(() => device?.dispose());

  const weights = () =>
    store([
      stored('a', matrix(40, 5, 1)),
      stored('b', matrix(40, 5, 2), 'BF16'),
      stored('c', matrix(7, 5, 3), 'F16'),
    ]);
  const call = (ids: readonly number[], attributes = {}) => ({
    op: 'Embedding',
    weights: weights(),
    attributes: { weight: 0, parts: [1, 2], on_host: 1, ...attributes },
    inputs: { ids: longs(ids) },
    outputs: [float('rows', 2)],
    on: { device, dtype: 'bfloat16' as const },
  });

  it('gives the rows that the CPU gives, in whatever type each part is stored, for few ids and many', async () => {
    for (const count of [1, 3, 64, 65, 400]) {
      const ids = Array.from({ length: count }, (_, i) => (i * 31) % 87);
      const { on, ...here } = call(ids);
      expect(elements((await runOp({ ...here, on })).rows)).toEqual(elements((await runOp(here)).rows));
    }
  });

  it('reads parts that are stored as codes', async () => {
    const coded = openWeightStore([], [int8('a', [12, 8]), int8('b', [10, 8])]);
    const ids = [0, 11, 12, 21, 5, 13];
    const tables = { weight: coded.handle('a'), parts: [coded.handle('b')] };
    const { on, ...here } = { ...call(ids, tables), weights: coded };
    expect(elements((await runOp({ ...here, on })).rows)).toEqual(elements((await runOp(here)).rows));
    coded.dispose();
  });

  it('takes its turns in one session with more ids and with fewer', async () => {
    const session = await openOp(call([0]));
    const { on: _, ...here } = call([0]);
    const reference = await openOp(here);
    for (const ids of [[86], Array.from({ length: 200 }, (_, i) => i % 87), [5, 41], [86]]) {
      const feeds = { ids: longs(ids) };
      const [there, expected] = await Promise.all([
        session.run(feeds, { rows: null }),
        reference.run(feeds, { rows: null }),
      ]);
      expect(elements(there.rows)).toEqual(elements(expected.rows));
    }
  });

  it('gives zeros for ids of no row, whatever else is asked for', async () => {
    const { rows } = await runOp(call([-1, 87, 3, 2 ** 52, -(2 ** 52)]));
    const values = elements(rows);
    const none = [...values.slice(0, 10), ...values.slice(15)];
    expect(none).toEqual(Array(20).fill(0));
    expect(values.slice(10, 15).every((value) => value !== 0)).toBe(true);
  });

  it('refuses parts of a table that is to be on the GPU', async () => {
    await expect(runOp(call([0], { on_host: 0 }))).rejects.toThrow(
      /'parts': on a GPU only tables on the host/,
    );
  });
});
