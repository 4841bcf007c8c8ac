import { describe, expect, test } from 'vitest';
import { libraryFile } from '../../../src/runtime/engine-status.ts';
import { readDependencies } from '../../../src/runtime/requirements/elf.ts';
import { thisMachine } from '../../../src/runtime/requirements/machine.ts';
import { elfFile } from './elf-file.ts';

const fromMemory = (bytes: Uint8Array) => (offset: number, length: number) =>
  bytes.subarray(offset, offset + length);

describe('readDependencies', () => {
  test('lists the libraries a file is linked against and the folders it names', () => {
    const file = elfFile(['libcudart.so.12', 'libc.so.6'], '$ORIGIN:/opt/lib');
    expect(readDependencies(fromMemory(file))).toEqual({
      needed: ['libcudart.so.12', 'libc.so.6'],
      runPath: ['$ORIGIN', '/opt/lib'],
    });
  });

  test.runIf(process.platform === 'linux')('reads the engine of this installation', () => {
    const path = libraryFile().path as string;
    const dependencies = readDependencies((offset, length) => thisMachine.read(path, offset, length));
    expect(dependencies?.needed).toEqual(expect.arrayContaining(['libc.so.6', 'libm.so.6']));
  });

  test('gives nothing for what is no ELF-64 library, and for every truncation of one', () => {
    const file = elfFile(['libcudart.so.12'], '$ORIGIN');
    expect(readDependencies(() => undefined)).toBeUndefined();
    expect(readDependencies(fromMemory(new TextEncoder().encode('version 1 '.repeat(20))))).toBeUndefined();
    for (let length = 0; length < file.length; length++)
      expect(readDependencies(fromMemory(file.subarray(0, length)))).toBeUndefined();
  });

  test('does not follow lengths that no library has', () => {
    const file = elfFile(['libcudart.so.12']);
    new DataView(file.buffer).setBigUint64(64 + 56 + 32, 1n << 60n, true);
    expect(readDependencies(fromMemory(file))).toBeUndefined();
  });
});
