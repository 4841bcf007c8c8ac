import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { TokenizerError } from '../../src/errors.ts';
import type { ChatMessage } from '../../src/tokenizer/conversation.ts';
import { loadTokenizer } from '../../src/tokenizer/load-tokenizer.ts';
import { alteredTokenizer, folderRepo, goldenPath } from './folder-repo.ts';

interface Expected {
  tokenizers: Record<
    string,
    {
      vocab_size_without_added: number;
      vocab_size_with_added: number;
      added_tokens: Record<string, number>;
      encode: {
        text: string;
        ids: number[];
        tokens: string[];
        decoded: string;
        decoded_skip_special: string;
      }[];
      decode: { ids: number[]; decoded: string; decoded_skip_special: string }[];
      stream: { text: string; ids: number[]; pieces: string[] }[];
      chat: {
        name: string;
        messages: ChatMessage[];
        tools?: unknown[];
        kwargs?: Record<string, unknown>;
        add_generation_prompt: boolean;
        text?: string;
        ids?: number[];
        error?: string;
      }[];
    }
  >;
}

const read = (file: string): Expected => JSON.parse(readFileSync(goldenPath(`tokenizer/${file}`), 'utf8'));
const expected: Expected = {
  tokenizers: { ...read('expected.json').tokenizers, ...read('expected_next.json').tokenizers },
};

describe.each(Object.entries(expected.tokenizers))(
  'the tokenizer of %s agrees with transformers',
  (model, golden) => {
    const loaded = loadTokenizer(folderRepo(goldenPath(`models/${model}`)));

    it('in sizes and added tokens', async () => {
      const tokenizer = await loaded;
      expect(tokenizer.vocabSize).toBe(golden.vocab_size_without_added);
      expect(tokenizer.fullVocabSize).toBe(golden.vocab_size_with_added);
      expect(Object.fromEntries(tokenizer.addedTokens)).toEqual(golden.added_tokens);
    });

    it.each(golden.chat)(
      'in laying out a chat: $name, generation prompt $add_generation_prompt',
      async (chat) => {
        const tokenizer = await loaded;
        const options = {
          ...chat.kwargs,
          ...(chat.tools && { tools: chat.tools }),
          addGenerationPrompt: chat.add_generation_prompt,
        };
        if (chat.error !== undefined) {
          expect(() => tokenizer.applyChatTemplate(chat.messages, options)).toThrow(TokenizerError);
          expect(() => tokenizer.applyChatTemplate(chat.messages, options)).toThrow(
            chat.error.replace(/^\w+: /, ''),
          );
          return;
        }
        expect(tokenizer.applyChatTemplate(chat.messages, { ...options, tokenize: false })).toBe(chat.text);
        expect(tokenizer.applyChatTemplate(chat.messages, options)).toEqual({
          inputIds: [chat.ids],
          attentionMask: [chat.ids?.map(() => 1)],
        });
      },
    );
  },
);

const withTexts = Object.entries(expected.tokenizers).filter(([, golden]) => golden.encode.length > 0);

describe.each(withTexts)('the tokenizer of %s agrees with transformers', (model, golden) => {
  const loaded = loadTokenizer(folderRepo(goldenPath(`models/${model}`)));

  it('in encoding', async () => {
    const tokenizer = await loaded;
    for (const { text, ids } of golden.encode) expect(tokenizer.encode(text), text).toEqual(ids);
  });

  it('in decoding', async () => {
    const tokenizer = await loaded;
    for (const { ids, decoded, decoded_skip_special } of [...golden.encode, ...golden.decode]) {
      expect(tokenizer.decode(ids)).toBe(decoded);
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(decoded_skip_special);
    }
  });

  it('in streaming', async () => {
    const tokenizer = await loaded;
    for (const { ids, pieces } of golden.stream) {
      const detokenizer = tokenizer.detokenizer();
      expect(ids.map((id) => detokenizer.push(id))).toEqual(pieces);
      expect(detokenizer.flush()).toBe('');
    }
  });

  it('in streaming any text, piece by piece', async () => {
    const tokenizer = await loaded;
    for (const { ids } of [...golden.encode, ...golden.decode]) {
      for (const skipSpecialTokens of [false, true]) {
        const detokenizer = tokenizer.detokenizer({ skipSpecialTokens });
        const text = ids.map((id) => detokenizer.push(id)).join('') + detokenizer.flush();
        expect(text).toBe(tokenizer.decode(ids, { skipSpecialTokens }));
      }
    }
  });
});

describe('vocab.json and merges.txt without tokenizer.json', () => {
  it('give the same ids', async () => {
    const golden = expected.tokenizers.qwen2_moe_a;
    const tokenizer = await loadTokenizer(
      await alteredTokenizer('qwen2_moe_a', { 'tokenizer.json': undefined }),
    );
    expect(golden?.encode.length).toBeGreaterThan(30);
    for (const { text, ids, decoded } of golden?.encode ?? []) {
      expect(tokenizer.encode(text), text).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(decoded);
    }
    expect(Object.fromEntries(tokenizer.addedTokens)).toEqual(golden?.added_tokens);
  });
});
