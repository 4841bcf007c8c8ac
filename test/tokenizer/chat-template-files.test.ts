import { describe, expect, it } from 'vitest';
import { loadTokenizer } from '../../src/tokenizer/load-tokenizer.ts';
import { alteredTokenizer } from './folder-repo.ts';

// biome-ignore lint/suspicious/noExplicitAny: parsed JSON that the tests change.
type Json = any;
const user = [{ role: 'user', content: 'x' }];
const load = async (files: Parameters<typeof alteredTokenizer>[1]) =>
  loadTokenizer(await alteredTokenizer('qwen2_moe_a', files));
const withTemplate = (template: unknown) => (json: Json) => {
  json.chat_template = template;
};
const none = withTemplate(undefined);

describe('a chat template comes', () => {
  it.each<[string, Parameters<typeof alteredTokenizer>[1], string]>([
    ['from chat_template.jinja', { 'chat_template.jinja': 'file' }, 'file'],
    ['without its byte order mark', { 'chat_template.jinja': '\ufefffile' }, 'file'],
    ['from tokenizer_config.json', { 'tokenizer_config.json': withTemplate('inline') }, 'inline'],
    ['from a map of templates', { 'tokenizer_config.json': withTemplate({ default: 'mapped' }) }, 'mapped'],
    [
      'from chat_template.json where there is nothing else',
      { 'tokenizer_config.json': none, 'chat_template.json': '{"chat_template": "json"}' },
      'json',
    ],
    [
      'from the file where both are there',
      { 'tokenizer_config.json': withTemplate('inline'), 'chat_template.jinja': 'file' },
      'file',
    ],
    [
      'with line ends of Windows',
      { 'chat_template.jinja': '{% if true %}\r\na\r\n{% endif %}\r\nb\r\n' },
      'a\nb',
    ],
  ])('%s', async (_, files, text) => {
    const tokenizer = await load(files);
    expect(tokenizer.applyChatTemplate(user, { tokenize: false })).toBe(text);
  });

  it('from additional_chat_templates by name', async () => {
    for (const config of [none, withTemplate('inline')]) {
      const tokenizer = await load({
        'tokenizer_config.json': config,
        'chat_template.jinja': 'main',
        'additional_chat_templates/rag.jinja': 'rag {{ documents | length }}',
        'additional_chat_templates/tool_use.jinja': 'tools',
        'additional_chat_templates/notes.txt': 'no template',
      });
      const options = { tokenize: false } as const;
      expect(tokenizer.applyChatTemplate(user, options)).toBe('main');
      expect(tokenizer.applyChatTemplate(user, { ...options, tools: [{}] })).toBe('tools');
      expect(tokenizer.applyChatTemplate(user, { ...options, chatTemplate: 'rag', documents: [{}] })).toBe(
        'rag 1',
      );
      expect(() => tokenizer.applyChatTemplate(user, { chatTemplate: 'notes' })).toThrow(
        /has default, rag, tool_use/,
      );
    }
  });

  it('with the special tokens that settings name', async () => {
    const tokenizer = await load({
      'tokenizer_config.json': (json) => {
        json.image_token = '<|image_pad|>';
        json.bos_token = null;
        json.chat_template =
          '{{ eos_token }}{{ pad_token }}{{ image_token }}{{ bos_token is defined }}{{ additional_special_tokens is defined }}';
      },
    });
    expect(tokenizer.applyChatTemplate(user, { tokenize: false })).toBe(
      '<|im_end|><|endoftext|><|image_pad|>FalseFalse',
    );
  });
});

describe('files of a tokenizer may have', () => {
  it('byte order marks', async () => {
    const plain = await load({});
    const { readFile } = await import('node:fs/promises');
    const repo = await alteredTokenizer('qwen2_moe_a', {});
    const marked = await load(
      Object.fromEntries(
        await Promise.all(
          ['tokenizer.json', 'tokenizer_config.json'].map(async (name) => [
            name,
            `\ufeff${await readFile((await repo.file(name)) as string, 'utf8')}`,
          ]),
        ),
      ),
    );
    expect(marked.encode('Hi<|im_end|>')).toEqual(plain.encode('Hi<|im_end|>'));
    const slow = await load({
      'tokenizer.json': undefined,
      'vocab.json': `\ufeff${await readFile((await repo.file('vocab.json')) as string, 'utf8')}`,
      'merges.txt': `\ufeff${await readFile((await repo.file('merges.txt')) as string, 'utf8')}`,
    });
    expect(slow.encode('Hi there<|im_end|>')).toEqual(plain.encode('Hi there<|im_end|>'));
  });

  it('null for what is not set', async () => {
    const plain = await load({});
    const nulls = await load({
      'tokenizer.json': (json) => {
        Object.assign(json, { truncation: null, padding: null, post_processor: null });
        Object.assign(json.model, { type: null, dropout: null, unk_token: null, ignore_merges: null });
        json.added_tokens[0].lstrip = null;
      },
      'tokenizer_config.json': (json) => {
        const fields = ['bos_token', 'unk_token', 'additional_special_tokens', 'extra_special_tokens'];
        for (const field of [...fields, 'clean_up_tokenization_spaces', 'added_tokens_decoder'])
          json[field] = null;
        json.cls_token = '';
      },
    });
    expect(nulls.encode('Hi<|im_end|>')).toEqual(plain.encode('Hi<|im_end|>'));
    const bare = await load({
      'tokenizer_config.json': (json) => {
        json.added_tokens_decoder = null;
      },
      'special_tokens_map.json':
        '{"eos_token": null, "pad_token": "<|im_end|>", "additional_special_tokens": null}',
      'added_tokens.json': '{}',
    });
    expect([bare.eosTokenId, bare.padTokenId]).toEqual([992, 992]);
  });
});
