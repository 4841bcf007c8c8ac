import { QWEN2_PATTERN } from './bpe/word-scanner.ts';

/**
 * What a Qwen2 tokenizer.json says beside vocabulary, merges and added tokens, for repos that ship only vocab.json and
 * merges.txt: byte-level BPE over NFC text. Source: transformers `models/qwen2/tokenization_qwen2.py`, `Qwen2Tokenizer`.
 */
export function qwen2TokenizerHead(): Record<string, unknown> {
  return {
    normalizer: { type: 'NFC' },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: QWEN2_PATTERN }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
      ],
    },
    post_processor: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: { type: 'BPE', unk_token: null },
  };
}
