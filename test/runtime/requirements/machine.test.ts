import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ask, thisMachine } from '../../../src/runtime/requirements/machine.ts';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-machine-'));
const file = join(folder, 'file');
writeFileSync(file, 'abcdef');
afterAll(() => rmSync(folder, { recursive: true }));

describe('this machine', () => {
  const PATIENCE = 20 * 60_000;
  const node = (script: string) => ask(process.execPath, ['--eval', script], PATIENCE);

  test('asks programs', async () => {
    expect(await node('console.log("580.95")')).toEqual({ ok: true, text: '580.95\n' });
    expect(await node('console.error("no devices"); process.exit(9)')).toEqual({
      ok: false,
      text: 'no devices',
    });
    expect(await thisMachine.ask('no-such-program-anywhere', [])).toBeUndefined();
    expect(await thisMachine.ask(file, [])).toBeUndefined();
  });

  test('does not wait for a program that hangs, nor for what it has started', async () => {
    expect(await ask('sh', ['-c', 'sleep 3; true'], 200)).toEqual({
      ok: false,
      text: 'no answer within 0.2 s',
    });
  });

  test('reads files', () => {
    const text = (offset: number, length: number) =>
      new TextDecoder().decode(thisMachine.read(file, offset, length));
    expect([text(2, 3), text(4, 9), text(9, 1)]).toEqual(['cde', 'ef', '']);
    expect(thisMachine.read(join(folder, 'none'), 0, 1)).toBeUndefined();
    expect(thisMachine.read(folder, 0, 1)).toBeUndefined();
    expect(thisMachine.list(folder)).toEqual(['file']);
    expect(thisMachine.list(file)).toEqual([]);
  });
});
