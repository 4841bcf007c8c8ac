import { execFileSync } from 'node:child_process';
import { symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../src/errors.ts';
import { MAX_JSON_DEPTH, parseJsonFile, readJsonFile } from '../src/json.ts';
import { JsonCursor, JsonEndError } from '../src/json-cursor.ts';
import { temporaryFolder } from './hub/helpers.ts';

const cursorOn = (text: string) => new JsonCursor(Buffer.from(text));

test('a file of settings has lists of some length, whoever checks their entries', async () => {
  const path = join(await temporaryFolder(), 'x.json');
  await writeFile(path, JSON.stringify({ a: [{ b: Array(65_536).fill('x') }] }));
  await readJsonFile(path);
  await writeFile(path, JSON.stringify({ a: [{ b: Array(65_537).fill('x') }] }));
  await expect(readJsonFile(path)).rejects.toThrow(/x\.json: a\.0\.b has 65537 entries; the limit is 65536/);
  await writeFile(path, JSON.stringify(Object.fromEntries(Array.from({ length: 70_000 }, (_, i) => [i, i]))));
  await expect(readJsonFile(path)).rejects.toThrow(/the file has 70000 entries/);
});

test.skipIf(process.platform === 'win32')('what is no file is not read, as it may never end', async () => {
  const folder = await temporaryFolder();
  const pipe = join(folder, 'pipe.json');
  execFileSync('mkfifo', [pipe]);
  const device = join(folder, 'device.json');
  await symlink('/dev/zero', device);
  await expect(readJsonFile(pipe)).rejects.toThrow(/pipe\.json is not a regular file, but a pipe/);
  await expect(readJsonFile(device)).rejects.toThrow(/device\.json is not a regular file, but a pipe/);
  await expect(readJsonFile(folder)).rejects.toThrow(/is not a regular file, but a folder/);
});

describe('parseJsonFile', () => {
  test('parses what JSON.parse parses, with or without a byte order mark', () => {
    const value = { a: [1, 2.5, null, true, { b: '} ] \\" é' }] };
    expect(parseJsonFile(JSON.stringify(value), 'x.json')).toEqual(value);
    expect(parseJsonFile(`\ufeff${JSON.stringify(value)}`, 'x.json')).toEqual(value);
  });

  test('takes the numbers of Python that JSON does not have, outside strings', () => {
    const text =
      '\ufeff{"a":NaN,"b":[Infinity,-Infinity,-1.5e3],"c":"NaN, Infinity","a":{"d":NaN},"é":null,"t":[true,false]}';
    expect(parseJsonFile(text, 'x.json')).toEqual({
      a: { d: Number.NaN },
      b: [Infinity, -Infinity, -1500],
      c: 'NaN, Infinity',
      é: null,
      t: [true, false],
    });
  });

  test.each([
    '{"a":nan}',
    '{"a":-NaN}',
    '{"a":NaN,}',
    '[Infinity',
    '[NaN] x',
    '{"a":+Infinity}',
    '[--Infinity]',
  ])('refuses %s', (text) => {
    expect(() => parseJsonFile(text, 'x.json')).toThrow(/x\.json is not valid JSON/);
  });

  test('a member may be called like a part of every object', () => {
    const value = parseJsonFile('{"__proto__":{"a":NaN},"constructor":1}', 'x.json') as object;
    expect(Object.keys(value)).toEqual(['__proto__', 'constructor']);
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  });

  test('bounds the nesting, but not the brackets in strings', () => {
    const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
    expect(() => parseJsonFile(nested(MAX_JSON_DEPTH), 'x.json')).not.toThrow();
    expect(() => parseJsonFile(nested(MAX_JSON_DEPTH + 1), 'x.json')).toThrow(/x\.json: .*more than 64 deep/);
    expect(() => parseJsonFile('['.repeat(1e6), 'x.json')).toThrow(ConfigError);
    expect(parseJsonFile(JSON.stringify('['.repeat(1000)), 'x.json')).toBe('['.repeat(1000));
  });

  test.each(['', ' ', '{"a":', '{a:1}', 'nope'])('names the file of %j', (text) => {
    expect(() => parseJsonFile(text, 'config.json')).toThrow(ConfigError);
    expect(() => parseJsonFile(text, 'config.json')).toThrow(/config\.json is not valid JSON/);
  });
});

test('readJsonFile does not read what is too large for settings', async () => {
  const path = join(await temporaryFolder(), 'config.json');
  await writeFile(path, '{"a":1}');
  expect(await readJsonFile(path)).toEqual({ a: 1 });
  await truncate(path, 1e9);
  await expect(readJsonFile(path, 'config.json')).rejects.toThrow(
    /config\.json has 1000000000 bytes; the limit/,
  );
});

test('readJsonFile names another encoding', async () => {
  const path = join(await temporaryFolder(), 'config.json');
  await writeFile(path, Buffer.from('\ufeff{"a":1}', 'utf16le'));
  await expect(readJsonFile(path, 'config.json')).rejects.toThrow('config.json is not UTF-8 text but UTF-16');
  await writeFile(path, Buffer.from('{"a":"\xe9"}', 'latin1'));
  await expect(readJsonFile(path, 'config.json')).rejects.toThrow(/not UTF-8 text/);
});

describe('JsonCursor', () => {
  test('hands out every member, repeated keys too', () => {
    const keys: string[] = [];
    const cursor = cursorOn('{"a":1,"a":[2,{"x":"y"}],"\\u0062": null}');
    cursor.readObject((key) => {
      keys.push(key);
      cursor.skipValue(8);
    });
    expect(keys).toEqual(['a', 'a', 'b']);
    expect(cursor.peek()).toBeUndefined();
  });

  test.each(['{', '{"a', '{"a"', '{"a":', '{"a":1', '{"a":tr', '{"a":[1,', '{"a":"\\'])(
    'tells %j, which is only cut short, from what is wrong',
    (text) => {
      expect(() => cursorOn(text).skipValue(8)).toThrow(JsonEndError);
    },
  );

  test.each(['{1:2}', '{"a" 1}', '[1 2]', '[01]', '[1.]', '[tru]', '{"a":1,}', '["\\x"]', '[1}'])(
    'refuses %j',
    (text) => {
      let error: unknown;
      try {
        cursorOn(text).skipValue(8);
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toMatchObject({ name: 'JsonSyntaxError' });
    },
  );
});
