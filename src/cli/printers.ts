import type { Writable } from 'node:stream';
import { type Streamer, TextStreamer, type Tokenizer } from '../index.ts';

/** Writes one row's text as it is generated, without the prompt and special tokens. */
export function textPrinter(tokenizer: Tokenizer, stdout: Writable): Streamer {
  return new TextStreamer(tokenizer, {
    skipPrompt: true,
    skipSpecialTokens: true,
    write: (text) => stdout.write(text),
  });
}

/** Writes one row's ids as they are generated, separated by commas as `--input-ids` takes them. */
export function idPrinter(stdout: Writable): Streamer {
  let calls = 0;
  return {
    put(ids) {
      // The first call brings the prompt.
      if (calls > 0) stdout.write((calls > 1 ? ',' : '') + ids.join(','));
      calls++;
    },
    end() {},
  };
}
