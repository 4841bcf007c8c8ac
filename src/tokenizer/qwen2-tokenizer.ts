import type { AddedToken } from './tokenizer-config.ts';

// How Qwen's tokenizers cut text into pieces before merging: contractions, letters, single digits, punctuation, space.
const PIECES =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" +
  '|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

/**
 * The content of a Qwen2 tokenizer.json, apart from vocabulary and merges, for repos that ship only vocab.json and
 * merges.txt: byte-level BPE over NFC text. Source: transformers `convert_slow_tokenizer.py`, Qwen2Converter.
 */
export function qwen2TokenizerHead(addedTokens: readonly AddedToken[]): Record<string, unknown> {
  return {
    added_tokens: addedTokens,
    normalizer: { type: 'NFC' },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: PIECES }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
      ],
    },
    post_processor: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: { type: 'BPE', unk_token: null },
  };
}
