import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { loadTokenizer } from '../../src/tokenizer/load-tokenizer.ts';
import { alteredTokenizer } from './folder-repo.ts';

/** Files of a tokenizer as changes to those of qwen2_moe_a, and what transformers 5.18 makes of them. */
interface Variant {
  name: string;
  /** Fields of tokenizer.json. */
  tokenizer?: Record<string, unknown>;
  /** Added tokens that tokenizer.json has instead of those of the same text, or beside the others. */
  added?: { content: string }[];
  withoutJson?: boolean;
  /** Fields of tokenizer_config.json; those that go; and tokens of its `added_tokens_decoder`. */
  config: Record<string, unknown>;
  without: string[];
  listed?: Record<string, unknown>;
  files: Record<string, unknown>;
  encode: [text: string, ids: number[], decoded: string, withoutSpecial: string][];
  split: [text: string, ids: number[]][];
  eos: number | null;
  pad: number | null;
  size: number;
  vocab: number;
  ids?: Record<string, number>;
}

const variants: Variant[] = JSON.parse(
  readFileSync(new URL('../fixtures/tokenizer/variants.json', import.meta.url), 'utf8'),
);

it.each(variants)('loads $name as transformers does', async (variant) => {
  const { ignore_merges: ignoreMerges, ...head } = variant.tokenizer ?? {};
  const changes: Parameters<typeof alteredTokenizer>[1] = {
    'tokenizer.json': (json) => {
      Object.assign(json, head);
      if (ignoreMerges !== undefined) json.model.ignore_merges = ignoreMerges;
      const added = variant.added ?? [];
      const replaced = new Set(added.map((token) => token.content));
      json.added_tokens = [
        ...json.added_tokens.filter((token: { content: string }) => !replaced.has(token.content)),
        ...added,
      ];
    },
    'tokenizer_config.json': (json) => {
      for (const field of variant.without) delete json[field];
      Object.assign(json, variant.config);
      if (variant.listed) Object.assign(json.added_tokens_decoder, variant.listed);
    },
  };
  if (variant.withoutJson) changes['tokenizer.json'] = undefined;
  for (const [name, content] of Object.entries(variant.files)) changes[name] = JSON.stringify(content);
  const tokenizer = await loadTokenizer(await alteredTokenizer('qwen2_moe_a', changes));
  expect(tokenizer.eosTokenId).toBe(variant.eos ?? undefined);
  expect(tokenizer.padTokenId).toBe(variant.pad ?? undefined);
  expect(tokenizer.vocabSize).toBe(variant.vocab);
  expect(tokenizer.fullVocabSize).toBe(variant.size);
  if (variant.ids) expect(Object.fromEntries(tokenizer.addedTokens)).toEqual(variant.ids);
  expect(variant.encode.length).toBeGreaterThan(0);
  for (const [text, ids, decoded, withoutSpecial] of variant.encode) {
    expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(decoded);
    expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(withoutSpecial);
  }
  for (const [text, ids] of variant.split) {
    expect(tokenizer.encode(text, { splitSpecialTokens: true }), JSON.stringify(text)).toEqual(ids);
  }
});
