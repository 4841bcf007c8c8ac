import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { TokenizerError } from '../../src/errors.ts';
import { loadTokenizer } from '../../src/tokenizer/load-tokenizer.ts';
import { alteredTokenizer, folderRepo, goldenPath } from './folder-repo.ts';

// biome-ignore lint/suspicious/noExplicitAny: parsed JSON that the tests damage.
type Json = any;
const NO_JSON = { 'tokenizer.json': undefined } as const;

describe('loading a tokenizer refuses', () => {
  it.each<[string, Record<string, string | undefined | ((json: Json) => void)>, RegExp]>([
    [
      'a folder without one',
      { ...NO_JSON, 'merges.txt': undefined },
      /tokenizer\.json is missing.*merges\.txt/,
    ],
    ['cut JSON', { 'tokenizer.json': '{"model": {"vocab"' }, /tokenizer\.json is not valid JSON/],
    ['an empty file', { 'tokenizer.json': '' }, /tokenizer\.json is not valid JSON/],
    ['a list', { 'tokenizer.json': '[]' }, /tokenizer\.json: the content is \[\]/],
    ['no model', { 'tokenizer.json': (json) => delete json.model }, /tokenizer\.json: model is undefined/],
    [
      'a model that is none',
      {
        'tokenizer.json': (json) => {
          json.model = 5;
        },
      },
      /tokenizer\.json: model is 5; expected an object/,
    ],
    [
      'another kind of model',
      {
        'tokenizer.json': (json) => {
          json.model.type = 'Unigram';
        },
      },
      /model\.type is "Unigram"; only BPE/,
    ],
    [
      'a vocabulary that is a list',
      {
        'tokenizer.json': (json) => {
          json.model.vocab = [];
        },
      },
      /tokenizer\.json: model\.vocab is \[\]; expected an object/,
    ],
    [
      'an empty vocabulary',
      {
        'tokenizer.json': (json) => {
          json.model.vocab = {};
        },
      },
      /model\.vocab is \{\}; expected an object of token → id with at least one/,
    ],
    [
      'an id that is no integer',
      {
        'tokenizer.json': (json) => {
          json.model.vocab.A = '32';
        },
      },
      /model\.vocab: the id of token "A" is "32"; expected a whole number from 0 to/,
    ],
    [
      'an id given twice',
      {
        'tokenizer.json': (json) => {
          json.model.vocab.A = json.model.vocab.B;
        },
      },
      /both have id 33/,
    ],
    [
      'no merges',
      { 'tokenizer.json': (json) => delete json.model.merges },
      /model\.merges is undefined; expected a list/,
    ],
    [
      'a merge of three',
      {
        'tokenizer.json': (json) => {
          json.model.merges[5] = 'a b c';
        },
      },
      /model\.merges\[5\] is "a b c"; expected two tokens/,
    ],
    [
      'a merge of unknown tokens',
      {
        'tokenizer.json': (json) => {
          json.model.merges[5] = ['zz', 'Q'];
        },
      },
      /model\.merges\[5\].* needs the token "zz"/,
    ],
    [
      'an added token without content',
      { 'tokenizer.json': (json) => delete json.added_tokens[1].content },
      /added_tokens\.1\.content is undefined/,
    ],
    [
      'an added token with the id of another token',
      {
        'tokenizer.json': (json) => {
          json.added_tokens[0].id = 32;
        },
      },
      /the added token "<\|endoftext\|>" has the id 32, which belongs to "A"/,
    ],
    [
      'an id that no array can hold',
      {
        'tokenizer.json': (json) => {
          json.added_tokens[0].id = 2 ** 40;
        },
      },
      /added_tokens\.0\.id is 1099511627776/,
    ],
    [
      'an unknown decoder',
      {
        'tokenizer.json': (json) => {
          json.decoder = { type: 'Nonsense' };
        },
      },
      /tokenizer\.json: decoder is .*; only the decoder ByteLevel/,
    ],
    [
      'a damaged tokenizer_config.json',
      { 'tokenizer_config.json': '{"a": ' },
      /tokenizer_config\.json is not valid JSON/,
    ],
    [
      'a token of the wrong type',
      {
        'tokenizer_config.json': (json) => {
          json.eos_token = 7;
        },
      },
      /tokenizer_config\.json: eos_token is 7; expected a text or an object/,
    ],
    [
      'several fields of the wrong type, each by name',
      {
        'tokenizer_config.json': (json) => {
          Object.assign(json, { eos_token: 7, bos_token: { content: '' } });
        },
      },
      /bos_token\.content is ""; expected 1 to 256 characters; eos_token is 7; expected a text/,
    ],
    [
      'a listed token under no id',
      {
        'tokenizer_config.json': (json) => {
          json.added_tokens_decoder = { x: { content: '<x>' } };
        },
      },
      /added_tokens_decoder\.x is .*; expected a token id as its name/,
    ],
    [
      'an added token without a name',
      {
        'tokenizer_config.json': (json) => delete json.added_tokens_decoder,
        'added_tokens.json': '{"": 5}',
      },
      /added_tokens\.json: "" is 5; expected 1 to 256 characters as its name/,
    ],
    [
      'a chat template of the wrong type',
      {
        'tokenizer_config.json': (json) => {
          json.chat_template = 7;
        },
      },
      /tokenizer_config\.json: chat_template is 7; expected a text or a list or an object/,
    ],
    ['a damaged vocab.json', { ...NO_JSON, 'vocab.json': '{"a": 1,' }, /vocab\.json is not valid JSON/],
    [
      'a vocab.json that is a list',
      { ...NO_JSON, 'vocab.json': '[1]' },
      /vocab\.json is \[1\]; expected an object/,
    ],
    [
      'a damaged merges.txt',
      { ...NO_JSON, 'merges.txt': '#version: 0.2\nh e\nbroken\n' },
      /merges\.txt: line 3 is "broken"; expected two tokens/,
    ],
    [
      'merges.txt of another vocabulary',
      { ...NO_JSON, 'merges.txt': 'h e\nhe 中\n' },
      /merges\.txt: line 2 .*"中"/,
    ],
  ])('%s', async (_, files, message) => {
    const loading = loadTokenizer(await alteredTokenizer('qwen2_moe_a', files));
    await expect(loading).rejects.toThrow(message);
    await expect(loading).rejects.toBeInstanceOf(TokenizerError);
  });
});

describe('loading a tokenizer', () => {
  it('takes merges as text and as pairs', async () => {
    const pairs = await alteredTokenizer('qwen2_moe_a', {
      'tokenizer.json': (json: Json) => {
        json.model.merges = json.model.merges.map((merge: string | string[]) =>
          typeof merge === 'string' ? merge.split(' ') : merge.join(' '),
        );
      },
    });
    const text = 'The small river follows the quiet engine.';
    const original = await loadTokenizer(folderRepo(goldenPath('models/qwen2_moe_a')));
    expect((await loadTokenizer(pairs)).encode(text)).toEqual(original.encode(text));
  });

  it('asks for vocab.json and merges.txt only where tokenizer.json is missing', async () => {
    const repo = folderRepo(goldenPath('models/qwen2_moe_a'));
    const asked: string[] = [];
    const file = (name: string) => {
      asked.push(name);
      return repo.file(name);
    };
    await loadTokenizer({ ...repo, file });
    expect(asked.sort()).toEqual(['chat_template.jinja', 'tokenizer.json', 'tokenizer_config.json']);
  });

  it('skips empty lines of merges.txt', async () => {
    const merges = readFileSync(goldenPath('models/qwen2_moe_a/merges.txt'), 'utf8').replaceAll(
      '\n',
      '\r\n\r\n',
    );
    const repo = await alteredTokenizer('qwen2_moe_a', { ...NO_JSON, 'merges.txt': merges });
    const original = await loadTokenizer(folderRepo(goldenPath('models/qwen2_moe_a')));
    const text = 'The small river follows the quiet engine.';
    expect((await loadTokenizer(repo)).encode(text)).toEqual(original.encode(text));
  });

  it('numbers special tokens after vocab.json where no ids are listed', async () => {
    const repo = await alteredTokenizer('qwen2_moe_a', {
      ...NO_JSON,
      'tokenizer_config.json': JSON.stringify({
        eos_token: '<|endoftext|>',
        extra_special_tokens: ['<|im_start|>'],
      }),
    });
    const tokenizer = await loadTokenizer(repo);
    expect(tokenizer.encode('A<|im_start|><|endoftext|>')).toEqual([32, 991, 990]);
    expect(tokenizer.eosTokenId).toBe(990);
    expect(tokenizer.decode([32, 991, 990], { skipSpecialTokens: true })).toBe('A');
  });

  it('does without tokenizer_config.json', async () => {
    const repo = await alteredTokenizer('qwen2_moe_a', { 'tokenizer_config.json': undefined });
    const tokenizer = await loadTokenizer(repo);
    expect(tokenizer.encode('<|im_end|>')).toEqual([992]);
    expect(tokenizer.eosTokenId).toBeUndefined();
  });

  it('takes tokens written as objects, and added tokens only tokenizer_config.json has', async () => {
    const repo = await alteredTokenizer('qwen2_moe_a', {
      'tokenizer_config.json': (json: Json) => {
        json.eos_token = { content: '<|endoftext|>', lstrip: false };
        json.added_tokens_decoder[1016] = { content: '<|new|>', special: true };
      },
    });
    const tokenizer = await loadTokenizer(repo);
    expect(tokenizer.eosTokenId).toBe(990);
    expect(tokenizer.encode('a<|new|>')).toEqual([64, 1016]);
    expect(tokenizer.decode([64, 1016], { skipSpecialTokens: true })).toBe('a');
  });

  it('lets the event loop turn while a full-size vocabulary is read', async () => {
    const repo = await alteredTokenizer('qwen2_moe_a', { 'tokenizer.json': fullSizeTokenizer() });
    let turns = 0;
    let counting = true;
    const turn = () => {
      turns++;
      if (counting) setImmediate(turn);
    };
    setImmediate(turn);
    const tokenizer = await loadTokenizer(repo);
    counting = false;
    // 151,643 tokens and as many merges, 1,024 at a time.
    expect(turns).toBeGreaterThan(290);
    expect(tokenizer.vocabSize).toBe(151_643);
    const text = 'Experts are chosen for every token. 你好 😀';
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });
});

/** tokenizer.json of Qwen's size, with a vocabulary grown by pairing tokens. */
function fullSizeTokenizer(): string {
  const json = JSON.parse(readFileSync(goldenPath('models/qwen2_moe_a/tokenizer.json'), 'utf8'));
  const tokens = Object.keys(json.model.vocab).filter((token) => [...token].length === 1);
  const known = new Set(tokens);
  const merges: [string, string][] = [];
  for (let left = 0; known.size < 151_643; left++) {
    for (let right = 0; right < 256 && known.size < 151_643; right++) {
      const [a, b] = [tokens[left] as string, tokens[right] as string];
      if (known.has(a + b)) continue;
      known.add(a + b);
      tokens.push(a + b);
      merges.push([a, b]);
    }
  }
  json.model.vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  json.model.merges = merges;
  json.added_tokens = json.added_tokens.map((token: object, i: number) => ({
    ...token,
    id: tokens.length + i,
  }));
  return JSON.stringify(json);
}
