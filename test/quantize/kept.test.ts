import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { CheckpointError } from '../../src/errors.ts';
import { keptFolder, listKept, useKept } from '../../src/quantize/kept.ts';
import { layOutUnits, writeUnits } from '../../src/quantize/write-file.ts';

const tensors = [{ name: 'codes', dtype: 'I8', shape: [4] }] as const;
const unit = {
  tensors,
  *tasks() {
    yield {
      bytes: 4,
      run: (write: (...all: [string, number, Uint8Array]) => Promise<void>) =>
        write('codes', 0, new Uint8Array(4)),
    };
  },
};

const layout = layOutUnits([unit]);
const of = (name: string) => ({
  folder: join(keptFolder(), name),
  model: 'acme/model',
  scheme: 'experts int8',
  bytes: layout.bytes,
});

it('rounded weights are kept once by several who round the same at the same time, and are there from then on', async () => {
  const what = of('same');
  const warnings: string[] = [];
  const one = () =>
    useKept(what, {
      layout,
      open: ({ tensors }) => [...tensors.keys()],
      write: (path) => writeUnits(path, [unit], { threads: 1 }),
      warn: (message) => warnings.push(message),
    });
  expect(await Promise.all(Array.from({ length: 8 }, one))).toEqual(new Array(8).fill(['codes']));
  expect(await Promise.all(Array.from({ length: 8 }, one))).toEqual(new Array(8).fill(['codes']));
  expect(readdirSync(keptFolder())).toEqual(['same']);
  expect(await listKept()).toEqual([what]);
  expect(warnings).toEqual([]);
  // What is damaged gives way.
  writeFileSync(join(what.folder, 'weights.safetensors'), 'cut');
  expect(await one()).toEqual(['codes']);
  expect(warnings).toEqual([
    `what is kept of acme/model in ${what.folder} is damaged; it is made anew from the checkpoint`,
  ]);
});

it('what stays damaged however often it is written is refused with what helps', async () => {
  const what = of('failing');
  const using = useKept(what, {
    layout,
    open: () => {
      throw new CheckpointError('the disk gives other bytes than it was given');
    },
    write: (path) => writeUnits(path, [unit], { threads: 1 }),
    warn: () => {},
  });
  await expect(using).rejects.toThrow(
    /failing does not hold what has just been written .*cache rm --quantized acme\/model.*SWITCHYARD_CACHE/,
  );
});
