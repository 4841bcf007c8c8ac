import { describe, expect, it } from 'vitest';
import { InputError, TokenizerError } from '../../src/errors.ts';
import { loadTokenizer } from '../../src/tokenizer/load-tokenizer.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { alteredTokenizer, folderRepo, goldenPath } from './folder-repo.ts';

const loaded = loadTokenizer(folderRepo(goldenPath('models/qwen2_moe_a')));
const END_OF_TEXT = 990;

describe('calling a tokenizer', () => {
  it('encodes one text as one row', async () => {
    const tokenizer = await loaded;
    const ids = tokenizer.encode('Hello, world!');
    expect(tokenizer('Hello, world!')).toEqual({ inputIds: [ids], attentionMask: [ids.map(() => 1)] });
  });

  it('pads shorter rows on the left with the pad token', async () => {
    const tokenizer = await loaded;
    const [long, short] = [tokenizer.encode('Hello, world!'), tokenizer.encode('Hello')];
    const gap = long.length - short.length;
    expect(gap).toBeGreaterThan(0);
    expect(tokenizer(['Hello, world!', 'Hello'])).toEqual({
      inputIds: [long, [...Array(gap).fill(END_OF_TEXT), ...short]],
      attentionMask: [long.map(() => 1), [...Array(gap).fill(0), ...short.map(() => 1)]],
    });
  });

  it('pads any number of rows', async () => {
    const rows = Array.from({ length: 200_000 }, () => [1]);
    const { inputIds } = (await loaded).pad([...rows, [1, 2]]);
    expect(inputIds).toHaveLength(200_001);
    expect(inputIds[0]).toHaveLength(2);
  });

  it('leaves rows ragged with padding: false', async () => {
    const tokenizer = await loaded;
    const batch = tokenizer(['Hello, world!', 'Hello'], { padding: false });
    expect(batch.inputIds).toEqual([tokenizer.encode('Hello, world!'), tokenizer.encode('Hello')]);
    expect(batch.attentionMask.map((row) => row.length)).toEqual(batch.inputIds.map((row) => row.length));
  });

  it('needs a pad token only where rows differ in length', async () => {
    const drop = (config: Record<string, unknown>) => {
      delete config.pad_token;
    };
    const tokenizer = await loadTokenizer(
      await alteredTokenizer('qwen2_moe_a', { 'tokenizer_config.json': drop }),
    );
    expect(tokenizer.padTokenId).toBeUndefined();
    expect(tokenizer(['a', 'b']).inputIds).toHaveLength(2);
    expect(() => tokenizer(['a', 'Hello'])).toThrow(/no pad token.*padding: false/);
  });

  it.each([[3], [null], [[]], [['a', 3]]])('refuses %j', async (text) => {
    const tokenizer = await loaded;
    expect(() => tokenizer(text as unknown as string)).toThrow(InputError);
  });
});

describe('a tokenizer', () => {
  it('is a function and a Tokenizer', async () => {
    const tokenizer = await loaded;
    expect(typeof tokenizer).toBe('function');
    expect(tokenizer).toBeInstanceOf(Tokenizer);
  });

  it('knows its special tokens', async () => {
    const tokenizer = await loaded;
    expect(tokenizer.eosTokenId).toBe(992);
    expect(tokenizer.padTokenId).toBe(END_OF_TEXT);
    expect(tokenizer.bosTokenId).toBeUndefined();
    expect(tokenizer.specialTokens.slice(0, 3)).toEqual(['<|endoftext|>', '<|im_start|>', '<|im_end|>']);
    expect(tokenizer.tokenToId('<|im_end|>')).toBe(992);
    expect(tokenizer.idToToken(992)).toBe('<|im_end|>');
  });

  it('decodes rows', async () => {
    const tokenizer = await loaded;
    const { inputIds } = tokenizer(['Hello, world!', 'Hello']);
    expect(tokenizer.batchDecode(inputIds, { skipSpecialTokens: true })).toEqual(['Hello, world!', 'Hello']);
    expect(tokenizer.decode([])).toBe('');
  });

  it('names an id that no token has', async () => {
    const tokenizer = await loaded;
    expect(() => tokenizer.decode([5, 1016])).toThrow(/id 1016 \(position 1\); ids go up to 1015/);
    expect(() => tokenizer.decode([5, -1])).toThrow(/Position 1 .* is -1/);
    expect(() => tokenizer.decode([1.5])).toThrow(InputError);
    expect(tokenizer.decode([32, 1016, 33], { unknownIds: 'skip' })).toBe('AB');
  });
});

describe('streaming', () => {
  it('goes on after ids that no token has', async () => {
    const detokenizer = (await loaded).detokenizer();
    expect([32, 1016, 33].map((id) => detokenizer.push(id))).toEqual(['A', '', 'B']);
  });

  it('gives out at the end what was held back', async () => {
    const detokenizer = (await loaded).detokenizer();
    expect([32, 127].map((id) => detokenizer.push(id))).toEqual(['A', '']);
    expect(detokenizer.pending).toBe('\uFFFD');
    expect(detokenizer.flush()).toBe('\uFFFD');
    expect(detokenizer.pending).toBe('');
  });

  it('does not hold back endless invalid bytes, and loses none', async () => {
    const tokenizer = await loaded;
    const [first, ...rest] = tokenizer.encode('好').slice(-3);
    for (const unit of [[127], [222, 124, 107], [first as number], [160, 121], [...rest, first as number]]) {
      const ids = Array.from({ length: 400 }, (_, i) => unit[i % unit.length] as number);
      const detokenizer = tokenizer.detokenizer();
      let text = '';
      for (const id of ids) {
        text += detokenizer.push(id);
        expect(detokenizer.pending.length).toBeLessThan(140);
      }
      expect(text + detokenizer.flush()).toBe(tokenizer.decode(ids));
    }
  });
});

describe('a chat template', () => {
  const withTemplate = async (template: string) =>
    loadTokenizer(await alteredTokenizer('qwen2_moe_a', { 'chat_template.jinja': template }));
  const user = [{ role: 'user', content: 'Hello <b> & "you"' }];

  it('in chat_template.jinja goes before tokenizer_config.json', async () => {
    const tokenizer = await withTemplate('{{ messages[0].role }}!');
    expect(tokenizer.applyChatTemplate(user, { tokenize: false })).toBe('user!');
  });

  it('gets tools, documents, special tokens and further arguments', async () => {
    const tokenizer = await withTemplate(
      '{{ tools | tojson }}|{{ documents | length }}|{{ eos_token }}|{{ bos_token is defined }}|{{ enable_thinking }}',
    );
    const text = tokenizer.applyChatTemplate(user, {
      tools: [{ name: 'a<b' }],
      documents: [{}, {}],
      enable_thinking: false,
      tokenize: false,
    });
    expect(text).toBe('[{"name": "a<b"}]|2|<|im_end|>|False|False');
  });

  it('has loop controls, namespaces and the date', async () => {
    const tokenizer = await withTemplate(
      "{% set ns = namespace(n=0) %}{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }} {{ strftime_now('%Y') }}",
    );
    const before = new Date().getFullYear();
    const text = tokenizer.applyChatTemplate(user, { tokenize: false });
    // It may be New Year.
    expect([`3 ${before}`, `3 ${new Date().getFullYear()}`]).toContain(text);
  });

  it('can be chosen among named ones, and tools choose tool_use', async () => {
    const tokenizer = await loadTokenizer(
      await alteredTokenizer('qwen2_moe_a', {
        'tokenizer_config.json': (config: Record<string, unknown>) => {
          config.chat_template = ['default', 'tool_use', 'rag'].map((name) => ({
            name,
            template: `this is ${name}`,
          }));
        },
      }),
    );
    expect(tokenizer.applyChatTemplate(user, { tokenize: false })).toBe('this is default');
    expect(tokenizer.applyChatTemplate(user, { tokenize: false, tools: [] })).toBe('this is tool_use');
    expect(tokenizer.applyChatTemplate(user, { tokenize: false, chatTemplate: 'rag' })).toBe('this is rag');
    expect(() => tokenizer.applyChatTemplate(user, { chatTemplate: 'rug' })).toThrow(
      /"rug"; it has default, rag, tool_use/,
    );
  });

  it('can leave the last message open', async () => {
    const tokenizer = await loaded;
    const messages = [...user, { role: 'assistant', content: ' The answer is ' }];
    const text = tokenizer.applyChatTemplate(messages, { continueFinalMessage: true, tokenize: false });
    expect(text.endsWith('<|im_start|>assistant\n The answer is ')).toBe(true);
    const both = { continueFinalMessage: true, addGenerationPrompt: true };
    expect(() => tokenizer.applyChatTemplate(messages, both)).toThrow(/exclude each other/);
    const empty = [{ role: 'assistant', content: '' }];
    expect(() => tokenizer.applyChatTemplate(empty, { continueFinalMessage: true })).toThrow(InputError);
  });

  it('that is missing says so', async () => {
    const tokenizer = await loadTokenizer(
      await alteredTokenizer('qwen2_moe_a', {
        'tokenizer_config.json': (config: Record<string, unknown>) => {
          delete config.chat_template;
        },
      }),
    );
    expect(() => tokenizer.applyChatTemplate(user)).toThrow(/has no chat template.*base model/);
  });

  it('failing on a message without a field names template and reason', async () => {
    const tokenizer = await withTemplate("{{ messages[0].name + '!' }}");
    expect(() => tokenizer.applyChatTemplate(user)).toThrow(TokenizerError);
    expect(() => tokenizer.applyChatTemplate(user)).toThrow(/chat_template\.jinja .*no attribute 'name'/);
  });

  it.each([
    ['text', 'hello'],
    ['an empty list', []],
    ['conversations', [user]],
    ['functions', [{ role: 'user', content: () => 'x' }]],
    ['class instances', [{ role: 'user', content: new Map() }]],
  ])('refuses %s as messages', async (_, messages) => {
    const tokenizer = await loaded;
    expect(() => tokenizer.applyChatTemplate(messages as never)).toThrow(InputError);
  });

  it('refuses messages that contain themselves', async () => {
    const tokenizer = await loaded;
    const message: Record<string, unknown> = { role: 'user', content: 'x' };
    message.more = [message];
    expect(() => tokenizer.applyChatTemplate([message as never])).toThrow(/levels deep/);
  });

  it.each([
    ['{% for a in range(1000000000) %}{% endfor %}', /range\(\) of 1000000000/],
    [
      '{% for a in range(90000) %}{% for b in range(90000) %}{{ a }}{% endfor %}{% endfor %}',
      /more than (5000000 steps|2 s)/,
    ],
    [
      "{% set ns = namespace(s='aaaaaaaa') %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      /text of more than/,
    ],
    [
      '{% set ns = namespace(s=[1]) %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}',
      /list of more than/,
    ],
    ['{% macro m(f) %}{{ f(f) }}{% endmacro %}{{ m(m) }}', /nested too deeply/],
    [
      '{% set ns = namespace(s=1) %}{% for a in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson }}',
      /cannot render/,
    ],
    ['{% set ns = namespace(s=1) %}{% set ns.s = ns %}{{ ns.s | tojson }}', /not JSON serializable/],
    ['{% if %}', /cannot render/],
    ['{{ messages', /cannot render/],
    ["{{ raise_exception('no') }}", /chat_template\.jinja cannot render this conversation: no\./],
  ])('is stopped: %s', async (template, message) => {
    const tokenizer = await withTemplate(template);
    let failure: unknown;
    try {
      tokenizer.applyChatTemplate(user);
    } catch (error) {
      failure = error;
    }
    expect(failure).toBeInstanceOf(TokenizerError);
    expect((failure as TokenizerError).message).toMatch(message);
  });
});
