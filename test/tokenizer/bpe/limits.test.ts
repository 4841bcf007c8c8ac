import { describe, expect, it, vi } from 'vitest';
import { AbortError, TokenizerError } from '../../../src/errors.ts';
import { loadTokenizer } from '../../../src/tokenizer/load-tokenizer.ts';
import { alteredTokenizer, folderRepo, goldenPath } from '../folder-repo.ts';

// biome-ignore lint/suspicious/noExplicitAny: parsed JSON that the tests change.
type Json = any;
const BYTES = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false };
const split = (Regex: string) => ({
  pre_tokenizer: {
    type: 'Sequence',
    pretokenizers: [{ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false }, BYTES],
  },
});
const replace = (Regex: string, content: string) => ({ type: 'Replace', pattern: { Regex }, content });
const withHead = async (head: object) =>
  loadTokenizer(
    await alteredTokenizer('qwen2_moe_a', { 'tokenizer.json': (json: Json) => Object.assign(json, head) }),
  );
const golden = loadTokenizer(folderRepo(goldenPath('models/qwen2_moe_a')));

describe('a pattern that would take for ever is stopped', () => {
  it.each<[string, object]>([
    ['of a pre-tokenizer', split('(a+)+$')],
    ['that repeats alternatives', split('(a|aa)+$')],
    ['of a normalizer', { normalizer: replace('(a+)+$', '') }],
  ])('%s', async (_, head) => {
    const tokenizer = await withHead(head);
    const text = `${'a'.repeat(60)}!`;
    let failure: unknown;
    try {
      tokenizer.encode(text);
    } catch (error) {
      failure = error;
    }
    expect(failure).toBeInstanceOf(TokenizerError);
    expect((failure as Error).message).toMatch(
      /patterns of .*tokenizer\.json take more than .* 61 characters/,
    );
    expect(tokenizer.encode('b')).toEqual([65]);
  });
});

describe('a tokenizer.json is refused', () => {
  const growing = {
    type: 'Sequence',
    normalizers: Array.from({ length: 12 }, () => replace('a', 'a'.repeat(10))),
  };
  it.each<[string, object, RegExp]>([
    ['with a malformed pattern', split('(a'), /pre_tokenizer\.pretokenizers\[0\]\.pattern cannot be used/],
    ['with a deep pattern', split('('.repeat(9_000) + ')'.repeat(9_000)), /pattern cannot be used/],
    ['with a long pattern', split('a'.repeat(30_000)), /pattern has 30000 characters/],
    [
      'with a pattern of no kind',
      { normalizer: { type: 'Replace', pattern: {}, content: '' } },
      /normalizer\.pattern is \{\}; expected \{ Regex: string \} or \{ String: string \}/,
    ],
    [
      'with an unknown normalizer',
      { normalizer: { type: 'Precompiled' } },
      /normalizer\.type is "Precompiled"; expected NFC or NFD/,
    ],
    [
      'with an unknown pre-tokenizer',
      { pre_tokenizer: { type: 'Metaspace' } },
      /pre_tokenizer\.type is "Metaspace"; expected ByteLevel or Split/,
    ],
    [
      'with an unknown post-processor',
      { post_processor: { type: 'Bert' } },
      /post_processor\.type is "Bert"; expected ByteLevel or TemplateProcessing or Sequence/,
    ],
  ])('%s', async (_, head, message) => {
    await expect(withHead(head)).rejects.toThrow(message);
    await expect(withHead(head)).rejects.toBeInstanceOf(TokenizerError);
  });

  it('when its normalizer makes texts grow without end', async () => {
    const tokenizer = await withHead({ normalizer: growing });
    expect(() => tokenizer.encode('a'.repeat(2_000))).toThrow(/normalizer makes more than 16 times as much/);
  });

  it('with values nested too deeply', async () => {
    const text = `{"normalizer": ${'{"a":'.repeat(9_000)}1${'}'.repeat(9_000)}}`;
    const loading = loadTokenizer(await alteredTokenizer('qwen2_moe_a', { 'tokenizer.json': text }));
    await expect(loading).rejects.toThrow(/tokenizer\.json is not valid JSON: values are nested too deeply/);
  });
});

describe('a text of 200,000 characters', () => {
  it.each([
    ['digits', '7'.repeat(200_000), 200_000],
    ['letters', 'qx'.repeat(100_000), undefined],
    ['spaces', ' '.repeat(200_000), undefined],
    ['line ends', '\r\n'.repeat(100_000), undefined],
    ['combining marks', `e${'\u0301'.repeat(200_000)}`, undefined],
    ['combining marks of several kinds', `e${'\u0301\u0316'.repeat(100_000)}`, undefined],
    ['beginnings of special tokens', '<|im_'.repeat(40_000), undefined],
  ])('of %s comes back', async (_, text, count) => {
    const tokenizer = await golden;
    const ids = tokenizer.encode(text);
    if (count !== undefined) expect(ids).toHaveLength(count);
    const back = tokenizer.decode(ids);
    // The first of the marks becomes part of its letter.
    if (text.startsWith('e')) expect(back).toHaveLength(text.length - 1);
    else expect(back === text).toBe(true);
  });

  it('lets the event loop turn, and can be aborted', async () => {
    const tokenizer = await golden;
    for (const text of ['word 12, '.repeat(60_000), 'qx'.repeat(200_000)]) {
      let turns = 0;
      let counting = true;
      const turn = () => {
        turns++;
        if (counting) setImmediate(turn);
      };
      setImmediate(turn);
      const ids = await tokenizer.encodeAsync(text);
      counting = false;
      expect(turns).toBeGreaterThan(2);
      expect(ids).toEqual(tokenizer.encode(text));
      const controller = new AbortController();
      setImmediate(() => controller.abort(new Error('enough')));
      await expect(tokenizer.encodeAsync(text, { signal: controller.signal })).rejects.toBeInstanceOf(
        AbortError,
      );
    }
  });

  it.each([
    ['one word', 'qx'.repeat(100_000)],
    ['long words', `${'qx'.repeat(2_000)} `.repeat(50)],
    ['spaces', ' '.repeat(200_000)],
    ['combining marks', `e${'\u0301'.repeat(200_000)}`],
    ['halves of pairs', '\ud800'.repeat(200_000)],
    ['characters that begin special tokens', '<'.repeat(200_000)],
  ])('of %s is worked through in small parts', async (_, text) => {
    // A clock by which each part takes longer than there is between two turns.
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => {
      now += 1_000;
      return now;
    });
    let turns = 0;
    let isCounting = true;
    const turn = () => {
      turns++;
      if (isCounting) setImmediate(turn);
    };
    setImmediate(turn);
    const ids = await (await golden).encodeAsync(text);
    isCounting = false;
    expect(turns).toBeGreaterThan(text.length / 8_192);
    expect(ids).toEqual((await golden).encode(text));
  });

  it('is not begun where the signal is aborted already', async () => {
    const encoding = (await golden).encodeAsync('a', { signal: AbortSignal.abort() });
    await expect(encoding).rejects.toBeInstanceOf(AbortError);
  });
});
