import { execFileSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CheckpointError } from '../../src/errors.ts';
import { readHeader } from '../../src/safetensors/header.ts';
import { MAX_TENSORS } from '../../src/safetensors/limits.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { temporaryFolder } from '../hub/helpers.ts';
import { fileOf, layOut, messageOf } from './build.ts';

async function header(bytes: Buffer): ReturnType<typeof readHeader> {
  const file = join(await temporaryFolder(), 'x.safetensors');
  await writeFile(file, bytes);
  return readHeader(file);
}
const refusal = async (bytes: Buffer) => {
  const message = await messageOf(header(bytes));
  expect(message).toMatch(/^CheckpointError: .*x\.safetensors/s);
  return message;
};
const entry = (dtype: string, shape: number[], begin: number, end: number) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

describe('readHeader', () => {
  test('locates every tensor: absolute offset, length, dtype, shape', async () => {
    const bytes = fileOf({
      __metadata__: { format: 'pt' },
      ...layOut({ a: ['F32', 2, 3], b: ['BF16', 4], c: ['I64'] }),
    });
    const start = 8 + Number(bytes.readBigUInt64LE());
    const tensors = await header(bytes);
    expect([...tensors.values()].map(({ file, ...rest }) => rest)).toEqual([
      { name: 'a', offset: start, byteLength: 24, dtype: 'F32', shape: [2, 3] },
      { name: 'b', offset: start + 24, byteLength: 8, dtype: 'BF16', shape: [4] },
      { name: 'c', offset: start + 32, byteLength: 8, dtype: 'I64', shape: [] },
    ]);
  });

  test('takes tensors in any order, empty ones, padding, escapes, unknown fields', async () => {
    const late = {
      late: entry('U8', [4], 2, 6),
      none: entry('F32', [0, 7], 2, 2),
      early: entry('U8', [2], 0, 2),
    };
    expect((await header(fileOf(late))).size).toBe(3);
    const escaped =
      '{"caf\\u00e9":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"note":{"x":[1.5e3,null,true]}}}   ';
    expect([...(await header(fileOf(escaped, 1))).keys()]).toEqual(['café']);
    expect((await header(fileOf('{}', 0))).size).toBe(0);
    expect((await header(fileOf('{"__metadata__":{}}', 0))).size).toBe(0);
    expect(
      (await header(fileOf('{"__metadata__":null,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1)))
        .size,
    ).toBe(1);
  });

  test('reads 20,000 tensors and lets the event loop turn meanwhile', async () => {
    const names = Array.from(
      { length: 20_000 },
      (_, i) => `model.layers.${i >> 7}.mlp.experts.${i & 127}.gate_proj.weight`,
    );
    const bytes = fileOf(layOut(Object.fromEntries(names.map((name) => [name, ['U8', 1]]))));
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    const tensors = await header(bytes);
    clearInterval(timer);
    expect([...tensors.keys()]).toEqual(names);
    expect(turns).toBeGreaterThan(3);
  });

  test.each([
    [
      'a hole between tensors',
      { a: entry('U8', [1], 0, 1), b: entry('U8', [1], 2, 3) },
      /"b" leaves 1 unused bytes/,
    ],
    ['a hole at the start', { a: entry('U8', [1], 1, 2) }, /"a" leaves 1 unused bytes/],
    [
      'two tensors at one place',
      { a: entry('U8', [2], 0, 2), b: entry('U8', [2], 0, 2) },
      /"b" shares bytes with "a"/,
    ],
    [
      'a tensor within another',
      { a: entry('U8', [4], 0, 4), b: entry('U8', [1], 1, 2) },
      /"b" shares bytes with "a"/,
    ],
    ['too many dimensions', { a: entry('U8', Array(65).fill(1), 0, 1) }, /"a".*more than 64 dimensions/],
    ['a product beyond 2^53', { a: entry('U8', [2 ** 30, 2 ** 30], 0, 1) }, /"a".*more than 2\^53/],
    [
      'a product beyond 2^53 that a zero would hide',
      { a: entry('U8', [2 ** 30, 2 ** 30, 0], 0, 0) },
      /"a".*2\^53/,
    ],
    ['a fraction', { a: entry('U8', [1.5], 0, 1) }, /"a".*1\.5 is not a whole number/],
    [
      'text in a shape',
      { a: { dtype: 'U8', shape: ['1'], data_offsets: [0, 1] } },
      /"a".*not a whole number/,
    ],
    ['a shape that is no list', { a: { dtype: 'U8', shape: 1, data_offsets: [0, 1] } }, /"a".*expected "\["/],
    [
      'three offsets',
      { a: { dtype: 'U8', shape: [1], data_offsets: [0, 1, 1] } },
      /"a".*more than 2 offsets/,
    ],
    [
      'one offset',
      { a: { dtype: 'U8', shape: [1], data_offsets: [0] } },
      /"a" has 1 "data_offsets"; expected two/,
    ],
    ['no shape', { a: { dtype: 'U8', data_offsets: [0, 1] } }, /"a" has no "shape"/],
    ['an entry that is a number', { a: 1 }, /"a".*expected "\{"/],
    ['metadata that is no text', { __metadata__: { a: 1 } }, /"__metadata__".*expected a string/],
    ['a name of 1025 bytes', { ['n'.repeat(1025)]: entry('U8', [1], 0, 1) }, /longer than 1024 bytes/],
  ])('refuses %s', async (_, description, message) => {
    expect(await refusal(fileOf(description, 4))).toMatch(message);
  });

  test.each([
    [
      'a number beyond 2^53',
      '{"a":{"dtype":"U8","shape":[9007199254740992],"data_offsets":[0,1]}}',
      /larger than 2\^53 - 1/,
    ],
    ['an exponent', '{"a":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}}', /1e0 is not a whole number/],
    ['a leading zero', '{"a":{"dtype":"U8","shape":[01],"data_offsets":[0,1]}}', /01 is not a whole number/],
    [
      'a field listed twice',
      '{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      /"a".*"dtype" is listed twice/,
    ],
    [
      'the same name, once escaped',
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0061":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}',
      /"a" is listed twice/,
    ],
    ['metadata listed twice', '{"__metadata__":{},"__metadata__":{}}', /"__metadata__" is listed twice/],
    ['text behind the object', '{} x', /text follows/],
    ['a comma at the end', '{"__metadata__":{},}', /expected a string/],
    ['a raw control character', '{"a\u0001":{}}', /control character/],
    ['a lone bracket', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}]', /expected ","/],
    ['an open end', '{"a":{"dtype":"U8","shape":[1]', /ends too early/],
    ['deep nesting', `{"a":{"x":${'['.repeat(100)}${']'.repeat(100)}}}`, /"a".*nested too deeply/],
  ])('refuses %s', async (_, text, message) => {
    expect(await refusal(fileOf(text, 1))).toMatch(message);
  });

  test('refuses invalid UTF-8 in a name', async () => {
    const bytes = fileOf('{"aX":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1);
    bytes[10] = 0xff;
    expect(await refusal(bytes)).toMatch(/not valid UTF-8/);
  });

  test('refuses bytes that belong to no tensor', async () => {
    expect(await refusal(fileOf(layOut({ a: ['U8', 4] }), 6))).toMatch(
      /2 bytes at the end .* belong to no tensor/,
    );
  });

  test('refuses more tensors than the limit', async () => {
    const entries = Array.from(
      { length: MAX_TENSORS + 1 },
      (_, i) => `"${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`,
    );
    expect(await refusal(fileOf(`{${entries.join()}}`, 0))).toMatch(/more than 200000 tensors/);
  });

  test('recognises a Git LFS pointer and says what to do', async () => {
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 4000000000\n`;
    expect(await refusal(Buffer.from(pointer))).toMatch(/Git LFS pointer.*4000000000 bytes.*git lfs pull/);
  });

  test.skipIf(process.platform === 'win32')(
    'refuses what is no regular file, without waiting for it',
    async () => {
      const folder = await temporaryFolder();
      execFileSync('mkfifo', [join(folder, 'pipe')]);
      await mkdir(join(folder, 'folder'));
      for (const name of ['pipe', 'folder']) {
        await expect(readHeader(join(folder, name)), name).rejects.toThrow(CheckpointError);
      }
    },
  );
});

describe('the safetensors package of npm agrees', () => {
  interface SecondReader {
    metadata: Map<string, { dtype: string; shape: number[]; data_offsets: number[] }>;
    getTensor(name: string): Uint8Array;
  }
  const { SafeTensor } = createRequire(import.meta.url)('safetensors') as {
    SafeTensor: new (bytes: Uint8Array) => SecondReader;
  };

  async function compare(file: string): Promise<number> {
    const whole = new Uint8Array(await readFile(file));
    const second = new SafeTensor(new Uint8Array(whole));
    const tensors = await readHeader(file);
    expect(second.metadata.size).toBe(tensors.size);
    for (const { name, dtype, shape, offset, byteLength } of tensors.values()) {
      const other = second.metadata.get(name);
      expect(other).toEqual({ dtype, shape, data_offsets: [offset, offset + byteLength] });
      expect(Buffer.compare(second.getTensor(name), whole.subarray(offset, offset + byteLength))).toBe(0);
    }
    return tensors.size;
  }

  test('on a file of ours', async () => {
    const file = join(await temporaryFolder(), 'x.safetensors');
    await writeFile(file, fileOf(layOut({ a: ['F32', 3, 5], b: ['BF16', 7], c: ['U8', 0], d: ['F64'] })));
    expect(await compare(file)).toBe(4);
  });

  test('on a golden checkpoint, once its metadata is taken out', async () => {
    const bytes = await readFile(join(goldenModel('qwen2_moe_a'), 'model-00001-of-00003.safetensors'));
    const length = Number(bytes.readBigUInt64LE());
    const { __metadata__, ...rest } = JSON.parse(bytes.toString('utf8', 8, 8 + length));
    expect(__metadata__).toBeDefined();
    const file = join(await temporaryFolder(), 'x.safetensors');
    const [plain, data] = [fileOf(rest, 0), bytes.subarray(8 + length)];
    await writeFile(file, Buffer.concat([plain, data]));
    expect(await compare(file)).toBeGreaterThan(10);
  });
});
