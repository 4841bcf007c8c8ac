import { truncate } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { openCheckpoint } from '../../src/safetensors/checkpoint.ts';
import { readShardIndex } from '../../src/safetensors/index-file.ts';
import { temporaryFolder } from '../hub/helpers.ts';
import { fileOf, layOut, messageOf, repoOf } from './build.ts';

const INDEX = 'model.safetensors.index.json';
const indexOf = (weight_map: unknown, metadata: unknown = { total_size: 1 }) =>
  JSON.stringify({ metadata, weight_map });
const shard = (...names: string[]) =>
  fileOf(layOut(Object.fromEntries(names.map((name) => [name, ['U8', 1]]))));

async function opened(files: Record<string, Buffer | string>): ReturnType<typeof openCheckpoint> {
  return openCheckpoint(await repoOf(await temporaryFolder(), files));
}

describe('openCheckpoint', () => {
  test('prefers model.safetensors to an index', async () => {
    const found = await opened({
      'model.safetensors': shard('a'),
      [INDEX]: '{"weight_map":{"a":"b.safetensors"}}',
    });
    expect([...found.tensors.keys()]).toEqual(['a']);
  });

  test('joins the shards of an index, each tensor with its own file', async () => {
    const found = await opened({
      [INDEX]: indexOf({ b: '2.safetensors', a: '1.safetensors', c: '2.safetensors' }),
      '1.safetensors': shard('a'),
      '2.safetensors': shard('b', 'c'),
    });
    expect(found.files.map((file) => basename(file))).toEqual(['1.safetensors', '2.safetensors']);
    expect([...found.tensors.values()].map(({ name, file }) => [name, basename(file)])).toEqual([
      ['a', '1.safetensors'],
      ['b', '2.safetensors'],
      ['c', '2.safetensors'],
    ]);
  });

  test('does without metadata, and ignores what it does not know', async () => {
    const text = '{"weight_map":{"a":"1.safetensors"},"more":[{"deep":[1,2,{"x":null}]}]}';
    expect((await opened({ [INDEX]: text, '1.safetensors': shard('a') })).tensors.size).toBe(1);
  });

  test('lists every missing shard at once', async () => {
    const files = {
      [INDEX]: indexOf({ a: '1.safetensors', b: '2.safetensors', c: '3.safetensors' }),
      '2.safetensors': shard('b'),
    };
    const found = await opened(files).catch((error) => error);
    expect(found).toBeInstanceOf(HubError);
    expect(found.message).toMatch(/model\.safetensors\.index\.json.*1\.safetensors, 3\.safetensors/);
  });

  test.each([
    [
      'a tensor that is in another shard',
      { a: '2.safetensors', b: '2.safetensors' },
      /"a" should be in 2\.safetensors, but it lies in .*1\.safetensors/,
    ],
    [
      'a tensor that is nowhere',
      { a: '1.safetensors', b: '2.safetensors', z: '1.safetensors' },
      /"z" should be in 1\.safetensors, but no shard has it/,
    ],
  ])('refuses an index with %s', async (_, map, message) => {
    const files = {
      [INDEX]: indexOf({ ...map, a2: '1.safetensors' }),
      '1.safetensors': shard('a', 'a2'),
      '2.safetensors': shard('b'),
    };
    expect(await messageOf(opened(files))).toMatch(message);
  });

  test.each(['1.safetensors', '2.safetensors'])(
    'of a tensor that two shards hold takes the one that the index names: %s',
    async (meant) => {
      const { tensors } = await opened({
        [INDEX]: indexOf({ a: '1.safetensors', b: meant, c: '2.safetensors' }),
        '1.safetensors': shard('a', 'b'),
        '2.safetensors': shard('b', 'c'),
      });
      expect(tensors.get('b')?.file).toMatch(new RegExp(`${meant}$`));
      expect([...tensors.keys()].sort()).toEqual(['a', 'b', 'c']);
    },
  );

  test('refuses a tensor that two shards hold and the index does not name', async () => {
    const files = {
      [INDEX]: indexOf({ a: '1.safetensors', c: '2.safetensors' }),
      '1.safetensors': shard('a', 'b'),
      '2.safetensors': shard('b', 'c'),
    };
    expect(await messageOf(opened(files))).toMatch(
      /"b" is stored twice: in .*1\.safetensors and in .*2\.safetensors/,
    );
  });

  test('says what is expected where there are no weights', async () => {
    expect(await messageOf(opened({}))).toMatch(
      /neither model\.safetensors nor model\.safetensors\.index\.json/,
    );
  });
});

describe('readShardIndex refuses', () => {
  const refusal = async (text: string) => {
    const folder = await temporaryFolder();
    await repoOf(folder, { [INDEX]: text });
    const message = await messageOf(readShardIndex(join(folder, INDEX)));
    expect(message).toMatch(/^CheckpointError: .*model\.safetensors\.index\.json/);
    return message;
  };

  test.each([
    '/etc/x.safetensors',
    '../x.safetensors',
    'a/../../x.safetensors',
    'a\\x.safetensors',
    'C:x.safetensors',
    './x.safetensors',
    'a//x.safetensors',
    '',
  ])('the shard name %j', async (name) => {
    expect(await refusal(indexOf({ t: name }))).toMatch(/"weight_map" of "t".*not a file inside/);
  });

  test.each([
    ['a pickle', indexOf({ t: 'pytorch_model.bin' }), /"t".*only \.safetensors/],
    ['a number for a shard', indexOf({ t: 1 }), /"t" is no text; expected a file name/],
    ['a list for the map', indexOf([]), /"weight_map" is no object/],
    ['an empty map', indexOf({}), /"weight_map" is empty/],
    ['no map', '{}', /no "weight_map"/],
    ['a tensor listed twice', '{"weight_map":{"t":"a.safetensors","t":"b.safetensors"}}', /lists "t" twice/],
    ['two maps', '{"weight_map":{"t":"a.safetensors"},"weight_map":{}}', /"weight_map" is listed twice/],
    ['deep nesting', `{"metadata":${'['.repeat(1000)}`, /nested too deeply/],
    ['text behind the object', '{"weight_map":{"t":"a.safetensors"}} x', /text follows/],
    ['a cut text', '{"weight_map":{"t":"a.safe', /ends too early/],
    ['an empty file', '', /ends too early/],
    ['a Git LFS pointer', `version https://git-lfs.github.com/spec/v1\nsize 1\n`, /Git LFS pointer/],
    [
      'too many shards',
      indexOf(Object.fromEntries(Array.from({ length: 4097 }, (_, i) => [`t${i}`, `${i}.safetensors`]))),
      /4097 files; the limit is 4096/,
    ],
  ])('%s', async (_, text, message) => {
    expect(await refusal(text)).toMatch(message);
  });

  test('a file beyond the size limit, without reading it', async () => {
    const folder = await temporaryFolder();
    await repoOf(folder, { [INDEX]: '{' });
    await truncate(join(folder, INDEX), 40_000_000);
    expect(await messageOf(readShardIndex(join(folder, INDEX)))).toMatch(/40000000 bytes; the limit/);
  });
});
