/** What people pass as a model that is none, and what they are told. */
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { AbortError, HubError, InputError } from '../../src/errors.ts';
import { PUBLISHED_MODELS } from '../../src/fit/published.ts';
import { checkFileName } from '../../src/hub/repo/names.ts';
import { resolveRepo } from '../../src/hub/repo/resolve-repo.ts';
import { spellingHint } from '../../src/hub/repo-spelling.ts';
import { openCheckpoint } from '../../src/safetensors/checkpoint.ts';
import { FakeHub } from './fake-hub.ts';
import { QUICK, startOver, temporaryFolder } from './helpers.ts';

let hub: FakeHub;
let folder: string;
beforeAll(async () => {
  hub = await FakeHub.start();
});
afterAll(() => hub.stop());
beforeEach(async () => {
  await startOver(hub, {});
  folder = await temporaryFolder();
});

async function said(what: string, options = {}): Promise<string> {
  const error = await resolveRepo(what, options, QUICK).then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(HubError);
  return (error as Error).message;
}

describe('an address', () => {
  test.each([
    'https://huggingface.co/Qwen/Qwen3-30B-A3B',
    'https://huggingface.co/Qwen/Qwen3-30B-A3B/tree/main',
    'https://huggingface.co/Qwen/Qwen3-30B-A3B/blob/main/config.json?download=true',
    'http://www.huggingface.co/Qwen/Qwen3-30B-A3B#usage',
    'huggingface.co/Qwen/Qwen3-30B-A3B',
    'hf.co/Qwen/Qwen3-30B-A3B',
    'hf://Qwen/Qwen3-30B-A3B',
  ])('%s: the id in it is named', async (address) => {
    expect(await said(address)).toMatch(
      /is an address; the repo id in it is "Qwen\/Qwen3-30B-A3B"\. Pass that/,
    );
    expect(hub.log).toEqual([]);
  });

  test('of another revision, and of the hub in use', async () => {
    expect(await said('https://huggingface.co/Qwen/X/tree/v1.0')).toMatch(
      /"Qwen\/X", and the revision "v1\.0"/,
    );
    expect(await said(`${hub.url}/Qwen/X`)).toMatch(/the repo id in it is "Qwen\/X"/);
  });

  test('of something else', async () => {
    expect(await said('https://huggingface.co/datasets/a/b')).toMatch(/an address, and not of a model/);
    expect(await said('https://example.org/model.zip')).toMatch(/an address; .* repo id .*HF_ENDPOINT/);
    expect(await said('s3://bucket/model')).toMatch(/an address/);
    expect(await said('file:///models/%zz')).toMatch(/is a URL; .* path, "\/models\/%zz"/);
    expect(await said('file:///models/my%20model')).toMatch(/is a URL; .* path, "\/models\/my model"/);
  });
});

describe('a name of a published model that lacks something', () => {
  const NAMES = [
    ['Qwen3-30B-A3B', /A repo id begins with its organisation, as "Qwen\/Qwen3-30B-A3B"/],
    ['qwen3-30b-a3b', /begins with its organisation, as "Qwen\/Qwen3-30B-A3B"/],
    ['Qwen3_30BA3B', /begins with its organisation, as "Qwen\/Qwen3-30B-A3B"/],
    ['qwen3-vl-235b', /begins with its organisation, as "Qwen\/Qwen3-VL-235B-A22B-Instruct"/],
    ['Qwen9-1B', /begins with its organisation, as "Qwen\/Qwen9-1B"/],
    ['phi', /begins with its organisation, as "organisation\/phi"/],
    ['qwen/qwen3-30b-a3b', /Did you mean "Qwen\/Qwen3-30B-A3B"\?/],
    ['Qwen/Qwen3-Codr-30B-A3B-Instruct', /Did you mean "Qwen\/Qwen3-Coder-30B-A3B-Instruct"\?/],
  ] as const;
  const RIGHT = ['Qwen/Qwen3-30B-A3B', 'Qwen/Qwen9-30B-A3B', 'someone/qwen3-30b-a3b'];
  const HINT = /begins with its organisation|Did you mean/;

  test.each(NAMES)('%s, as the hub does not know it', async (name, hint) => {
    expect(await said(name)).toMatch(hint);
  });

  test.each(NAMES)('%s, with the network off', async (name, hint) => {
    expect(await said(name, { localFilesOnly: true })).toMatch(hint);
  });

  test.each(NAMES)('%s, where no hub answers', async (name, hint) => {
    vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:9');
    expect(await said(name)).toMatch(hint);
  });

  test.each(RIGHT)('%s lacks nothing', async (name) => {
    expect(await said(name)).toMatch(/Check the spelling/);
    expect(await said(name, { localFilesOnly: true })).toMatch(/With the network on, "switchyard download/);
    vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:9');
    expect(await said(name)).toMatch(/cannot be reached/);
    for (const options of [{}, { localFilesOnly: true }]) expect(await said(name, options)).not.toMatch(HINT);
  });

  test('written so that it cannot be a repo id', async () => {
    expect(await said('qwen3:30b-a3b')).toMatch(/begins with its organisation, as "Qwen\/Qwen3-30B-A3B"/);
    expect(await said('Qwen 3 30B A3B')).toMatch(/begins with its organisation, as "Qwen\/Qwen3-30B-A3B"/);
    expect(await said(`./no such folder/${'x'.repeat(1e6)}`)).not.toMatch(HINT);
  });

  test('every model that `models` chooses from has a name that is known', async () => {
    for (const { repo } of PUBLISHED_MODELS.flatMap(({ ways }) => ways))
      expect(spellingHint(repo.toLowerCase())).toBe(`Did you mean "${repo}"?`);
  });
});

describe('a file', () => {
  test.each([
    ['model.gguf', /GGUF files are for llama\.cpp/],
    ['model.safetensors', /Pass the folder that it lies in/],
    ['config.json', /Pass the folder that it lies in/],
  ])('%s', async (name, message) => {
    await writeFile(join(folder, name), '');
    expect(await said(join(folder, name))).toMatch(message);
  });
});

const contents: [string, Record<string, string>, RegExp][] = [
  ['GGUF files', { 'model-Q4_K_M.gguf': '' }, /GGUF files \(model-Q4_K_M\.gguf\).*llama\.cpp/],
  [
    'an adapter',
    { 'adapter_config.json': '{"base_model_name_or_path":"Qwen/Base"}', 'adapter_model.safetensors': '' },
    /an adapter \(LoRA\).*"Qwen\/Base".*merge_and_unload/,
  ],
  [
    'pickled weights',
    { 'pytorch_model-00001-of-00002.bin': '' },
    /pickled \(pytorch_model-00001.*save_pretrained/,
  ],
  ['an exported model', { 'decoder.onnx': '' }, /exported model \(decoder\.onnx\)/],
];

describe.each(contents)('%s in place of a checkpoint', (_, files, message) => {
  test('as a folder', async () => {
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    const repo = await resolveRepo(folder);
    await expect(repo.require('config.json')).rejects.toThrow(message);
    await expect(openCheckpoint(repo)).rejects.toThrow(message);
  });

  test.each(['main', '1'.repeat(40)])('on the hub at %s, and then in the cache', async (revision) => {
    const entries = Object.entries(files).map(([name, text]) => [name, { bytes: Buffer.from(text) }]);
    hub.repos.set('acme/other', { commit: '1'.repeat(40), files: Object.fromEntries(entries) });
    const repo = await resolveRepo('acme/other', { revision }, QUICK);
    await expect(repo.require('config.json')).rejects.toThrow(message);
    await expect(openCheckpoint(repo)).rejects.toThrow(message);
    await repo.requireAll(Object.keys(files));
    const cached = await resolveRepo('acme/other', { revision: '1'.repeat(40), localFilesOnly: true });
    await expect(openCheckpoint(cached)).rejects.toThrow(message);
  });
});

test('a model in a subfolder, and a repo within the cache', async () => {
  hub.repos.set('acme/other', {
    commit: '1'.repeat(40),
    files: { 'int4/config.json': { bytes: Buffer.from('{}') }, 'README.md': { bytes: Buffer.from('') } },
  });
  const repo = await resolveRepo('acme/other', {}, QUICK);
  await expect(repo.require('config.json')).rejects.toThrow(/int4\/config\.json.* as subfolder/);
  await mkdir(join(folder, 'snapshots'));
  await mkdir(join(folder, 'blobs'));
  const inCache = await resolveRepo(folder);
  await expect(inCache.require('config.json')).rejects.toThrow(/within a cache.*Pass its repo id/);
});

// Links, pipes and permissions as Windows has none.
describe.skipIf(process.platform === 'win32')('a file of a folder that cannot be read', () => {
  const open = async (name = 'config.json') => (await resolveRepo(folder)).file(name);

  test('a link that leads nowhere', async () => {
    await symlink('/no/such/place', join(folder, 'config.json'));
    await expect(open()).rejects.toThrow(
      /config\.json is a symbolic link to \/no\/such\/place, and nothing is there/,
    );
  });

  test('links in a circle', async () => {
    await symlink('config.json', join(folder, 'config.json'));
    await expect(open()).rejects.toThrow(/config\.json cannot be read: .*circle \(ELOOP\)/);
    await symlink('self', join(folder, 'self'));
    expect(await said(join(folder, 'self'))).toMatch(/self cannot be read: .*circle/);
  });

  test('a folder, a pipe or a device in its place does not hang', async () => {
    await mkdir(join(folder, 'config.json'));
    await expect(open()).rejects.toThrow(
      /config\.json is not a regular file, but a folder\. Move it away, and put the file in its place/,
    );
    execFileSync('mkfifo', [join(folder, 'tokenizer.json')]);
    await expect(open('tokenizer.json')).rejects.toThrow(/not a regular file, but a pipe, socket or device/);
    await symlink('/dev/zero', join(folder, 'model.safetensors'));
    await expect(open('model.safetensors')).rejects.toThrow(
      /not a regular file, but a pipe, socket or device/,
    );
  });

  // Root may read anything.
  test.skipIf(process.getuid?.() === 0)('a file or folder without permission', async () => {
    await writeFile(join(folder, 'config.json'), '{}');
    await chmod(join(folder, 'config.json'), 0);
    await expect(open()).rejects.toThrow(/config\.json cannot be read: permission to read it is missing/);
    await chmod(folder, 0);
    await expect(open()).rejects.toThrow(/permission to read it is missing/);
    expect(await said(join(folder, 'sub'))).toMatch(/permission to read it is missing/);
    await chmod(folder, 0o700);
  });
});

describe('an option', () => {
  test.each([
    [{ revision: 5 }, /revision is 5; expected a string/],
    [{ subfolder: ['a'] }, /subfolder is \["a"\]; expected a string/],
    [{ cacheDir: true }, /cacheDir is true; expected a string/],
    [{ localFilesOnly: 'yes' }, /localFilesOnly is "yes"; expected a boolean/],
    [{ onProgress: 1 }, /onProgress is 1; expected a function/],
  ])('%j is refused', async (options, message) => {
    expect(await said('acme/model', options)).toMatch(message);
  });

  test('a signal is refused by the words of every other call, and taken where it is of another realm', async () => {
    const refused = resolveRepo(folder, { signal: {} as AbortSignal }, QUICK);
    await expect(refused).rejects.toThrow(/^resolveRepo: signal is \{\}; expected an AbortSignal$/);
    await expect(refused).rejects.toBeInstanceOf(InputError);
    const ending = new AbortController();
    const { signal } = ending;
    const foreign = {
      get aborted() {
        return signal.aborted;
      },
      addEventListener: signal.addEventListener.bind(signal),
      removeEventListener: signal.removeEventListener.bind(signal),
    } as AbortSignal;
    expect(foreign).not.toBeInstanceOf(AbortSignal);
    expect((await resolveRepo(folder, { signal: foreign }, QUICK)).id).toBe(folder);
    ending.abort();
    await expect(resolveRepo(folder, { signal: foreign }, QUICK)).rejects.toThrow(AbortError);
  });

  test('a token of another type is refused unseen', async () => {
    expect(await said('acme/model', { token: { secret: 1 } })).toMatch(
      /^token is of the type object; expected a string$/,
    );
  });

  test('a revision of a folder has no effect, and is refused', async () => {
    expect(await said(folder, { revision: 'v1' })).toMatch(/is a folder, which has no revisions/);
  });
});

describe('a token', () => {
  const id = 'acme/private';
  beforeEach(() => {
    hub.repos.set(id, {
      commit: '2'.repeat(40),
      files: { 'config.json': { bytes: Buffer.from('{}') } },
      needs: { token: 'hf_right', status: 401 },
    });
  });
  const load = async (options = {}) => (await resolveRepo(id, options, QUICK)).require('config.json');

  test.each(['hf_right\n', ' hf_right\r\n', '\ufeffhf_right', '\thf_right '])(
    '%j is taken without what is around it',
    async (token) => {
      await load({ token });
      vi.stubEnv('HF_TOKEN', token.replace('\ufeff', ''));
      await load({ forceDownload: true });
    },
  );

  test.each([
    ['hf_a\nhf_b', 'a line break'],
    ['hf_a hf_b', 'a space'],
    ['"hf_right"', 'a quotation mark'],
    ['hf_größe', 'the character "ö"'],
    ['hf_\u0007', 'a control character'],
    ['hf_a\u200b', 'the character'],
  ])('%j is refused by the name of its source, unseen', async (token, what) => {
    const sources: [string, () => Promise<unknown>][] = [
      ['the token contains', () => load({ token })],
      [
        'the token in HF_TOKEN contains',
        () => {
          vi.stubEnv('HF_TOKEN', token);
          return load();
        },
      ],
      [
        `the token in ${join(folder, 'token')} contains`,
        async () => {
          await writeFile(join(folder, 'token'), token);
          vi.stubEnv('HF_TOKEN', '');
          vi.stubEnv('HF_TOKEN_PATH', join(folder, 'token'));
          return load();
        },
      ],
    ];
    for (const [start, attempt] of sources) {
      const failed = attempt();
      await expect(failed).rejects.toThrow(`${start} ${what}`);
      await expect(failed).rejects.not.toThrow(/hf_[^"]/);
    }
  });

  test('that stops working midway is not a matter of spelling', async () => {
    const opened = await resolveRepo(id, { token: 'hf_right' }, QUICK);
    hub.fault = ({ place }) => (place === 'resolve' ? { status: 401 } : undefined);
    const failed = opened.require('config.json');
    await expect(failed).rejects.toThrow(/has served acme\/private so far.*\(401\).*expired or was revoked/);
    await expect(failed).rejects.not.toThrow(/spelling/);
  });
});

test.each(['9'.repeat(400), '999999999999'])('a Retry-After of %s is not printed as it is', async (wait) => {
  hub.fault = () => ({ status: 429, headers: { 'retry-after': wait } });
  expect(await said('acme/busy')).toMatch(/429 \(the hub asks to wait for more than a day\)/);
});

describe('a file of a repo on Windows', () => {
  const refusal = (name: string, platform: NodeJS.Platform) => {
    try {
      checkFileName(name, 'file name', platform);
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };

  test.each([
    ...['con', 'NUL.json', 'aux/config.json', 'sub/COM1', 'lpt9.safetensors', 'com².txt', 'nul .json'],
    ...['model:1.safetensors', 'a/bc:stream', 'what?.json', '<x>', 'a|b', 'a"b', '*.json', 'end.', 'a /b'],
  ])('may not be %j, which is a name like any other elsewhere', (name) => {
    expect(refusal(name, 'win32')).toMatch(
      /cannot be on Windows, which reserves ".+"\. Use the repo under WSL/,
    );
    expect(refusal(name, 'linux')).toBe('');
  });

  test.each([
    'config.json',
    'console.json',
    'sub/null.txt',
    'com10.bin',
    'model-00001-of-00002.safetensors',
    '.gitattributes',
  ])('may be %j', (name) => expect(refusal(name, 'win32')).toBe(''));
});
