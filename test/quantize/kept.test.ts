import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { keep, keptFolder, listKept, readKept } from '../../src/quantize/kept.ts';
import { writeUnits } from '../../src/quantize/write-file.ts';

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

it('rounded weights are kept once by several who round the same at the same time, and are there from then on', async () => {
  const what = { folder: join(keptFolder(), 'same'), model: 'acme/model', scheme: 'experts int8', bytes: 4 };
  const one = async () => {
    await keep(what, tensors, (path) => writeUnits(path, [unit], { threads: 1 }));
    return (await readKept(what.folder, tensors))?.tensors.size;
  };
  expect(await Promise.all(Array.from({ length: 8 }, one))).toEqual(new Array(8).fill(1));
  expect(await Promise.all(Array.from({ length: 8 }, one))).toEqual(new Array(8).fill(1));
  expect(readdirSync(keptFolder())).toEqual(['same']);
  expect(await listKept()).toEqual([what]);
  // What is damaged gives way.
  writeFileSync(join(what.folder, 'weights.safetensors'), 'cut');
  expect(await one()).toBe(1);
});
