import { expect, it } from 'vitest';
import { TextStreamer } from '../../src/generation/streamers.ts';
import { loadTokenizer } from '../../src/tokenizer/load-tokenizer.ts';
import { folderRepo, goldenPath } from './folder-repo.ts';

const loaded = loadTokenizer(folderRepo(goldenPath('models/qwen2_moe_a')));

it('gives pieces that together are the text, for any ids', async () => {
  const tokenizer = await loaded;
  // Ids of single bytes, which make invalid UTF-8 of every kind, beside all others.
  const bytes = Array.from({ length: 256 }, (_, id) => id);
  const difficult = ['é', '好', '😀', '\u0301', '\ufeff', '\ufffd'].flatMap((text) => tokenizer.encode(text));
  let seed = 11;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 1;
    return seed % below;
  };
  for (let round = 0; round < 3_000; round++) {
    const pool = [bytes, difficult, undefined][round % 3];
    const ids = Array.from({ length: 1 + random(round % 50 === 0 ? 300 : 14) }, () =>
      pool === undefined || random(8) === 0 ? random(1_020) : (pool[random(pool.length)] as number),
    );
    for (const skipSpecialTokens of [false, true]) {
      const whole = tokenizer.decode(ids, { skipSpecialTokens, unknownIds: 'skip' });
      const detokenizer = tokenizer.detokenizer({ skipSpecialTokens });
      let text = '';
      for (const id of ids) text += detokenizer.push(id);
      expect(text + detokenizer.flush(), JSON.stringify(ids)).toBe(whole);
      let written = '';
      const streamer = new TextStreamer(tokenizer, {
        skipSpecialTokens,
        write: (piece) => {
          written += piece;
        },
      });
      for (const id of ids) await streamer.put([id]);
      await streamer.end();
      expect(written).toBe(whole);
    }
  }
});
