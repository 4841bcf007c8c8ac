import { describe, expect, it, vi } from 'vitest';
import { InputError } from '../../src/errors.ts';
import type { GenerateOptions } from '../../src/generation/generate-options.ts';
import { TextIteratorStreamer, TextStreamer } from '../../src/generation/streamers.ts';
import { loadTokenizer } from '../../src/tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { folderRepo, goldenPath } from '../tokenizer/folder-repo.ts';
import { generate } from './generating.ts';
import { LookupModel } from './lookup-model.ts';

const loaded = loadTokenizer(folderRepo(goldenPath('models/qwen2_moe_a')));
const END = 992;

/** Options that make a generation say `text`, whatever the model thinks, then the end token. */
function saying(tokenizer: Tokenizer, text: string): GenerateOptions {
  const script = [...tokenizer.encode(text), END];
  const prompt = tokenizer.encode('Say it: ');
  const follow = (tokens: readonly number[], scores: Float32Array) => {
    scores.fill(-Infinity);
    scores[script[tokens.length - prompt.length] as number] = 0;
  };
  return { inputIds: [prompt], logitsProcessors: [follow], eosTokenId: END, maxNewTokens: 200, tokenizer };
}

const model = new LookupModel(1024);
const TEXT = 'Hi 😀 there 👨‍👩‍👧 你好 naïve';

describe('TextStreamer', () => {
  it('writes the prompt, then whole characters as they come', async () => {
    const tokenizer = await loaded;
    const pieces: string[] = [];
    const streamer = new TextStreamer(tokenizer, { write: (text) => pieces.push(text) });
    await generate(model, {}, { ...saying(tokenizer, TEXT), streamer });
    expect(pieces.join('')).toBe(`Say it: ${TEXT}<|im_end|>`);
    expect(pieces[0]).toBe('Say it: ');
    expect(pieces.length).toBeGreaterThan(12);
    expect(pieces.filter((piece) => piece === '' || piece.includes('\uFFFD'))).toEqual([]);
  });

  it('leaves out prompt and special tokens on request', async () => {
    const tokenizer = await loaded;
    let text = '';
    const write = (piece: string) => {
      text += piece;
    };
    const streamer = new TextStreamer(tokenizer, { skipPrompt: true, skipSpecialTokens: true, write });
    await generate(model, {}, { ...saying(tokenizer, TEXT), streamer });
    expect(text).toBe(TEXT);
  });

  it('writes what is left of a cut character at the end', async () => {
    const tokenizer = await loaded;
    let text = '';
    const write = (piece: string) => {
      text += piece;
    };
    const streamer = new TextStreamer(tokenizer, { skipPrompt: true, write });
    await generate(model, {}, { ...saying(tokenizer, '你好'), streamer, maxNewTokens: 2 });
    expect(text).toBe('\uFFFD');
  });

  it('waits for a slow writer', async () => {
    const tokenizer = await loaded;
    let busy = 0;
    let most = 0;
    const write = async () => {
      most = Math.max(most, ++busy);
      await new Promise((resolve) => setTimeout(resolve, 1));
      busy--;
    };
    await generate(
      model,
      {},
      { ...saying(tokenizer, TEXT), streamer: new TextStreamer(tokenizer, { write }) },
    );
    expect([most, busy]).toEqual([1, 0]);
  });

  it('writes to standard output by default, with a line break at the end', async () => {
    const tokenizer = await loaded;
    const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    try {
      await generate(model, {}, { ...saying(tokenizer, 'Hello'), streamer: new TextStreamer(tokenizer) });
      expect(write.mock.calls.map(([text]) => text).join('')).toBe('Say it: Hello<|im_end|>\n');
    } finally {
      write.mockRestore();
    }
  });

  it('that throws ends the generation with its own error', async () => {
    const tokenizer = await loaded;
    const write = () => {
      throw new Error('disk full');
    };
    const streamer = new TextStreamer(tokenizer, { write });
    await expect(generate(model, {}, { ...saying(tokenizer, TEXT), streamer })).rejects.toThrow('disk full');
    expect(model.open).toBe(0);
  });

  it('needs a tokenizer', () => {
    expect(() => new TextStreamer(undefined as unknown as Tokenizer)).toThrow(InputError);
  });
});

describe('TextIteratorStreamer', () => {
  it('hands out text while the model generates', async () => {
    const tokenizer = await loaded;
    const streamer = new TextIteratorStreamer(tokenizer, { skipPrompt: true, skipSpecialTokens: true });
    const slow = new LookupModel(1024, { pause: () => new Promise((resolve) => setImmediate(resolve)) });
    let done = false;
    const generation = generate(slow, {}, { ...saying(tokenizer, TEXT), streamer }).then(() => {
      done = true;
    });
    const early: boolean[] = [];
    let text = '';
    for await (const piece of streamer) {
      early.push(!done);
      text += piece;
    }
    await generation;
    expect(text).toBe(TEXT);
    expect(early[0]).toBe(true);
  });

  it('throws what ended the generation', async () => {
    const tokenizer = await loaded;
    const streamer = new TextIteratorStreamer(tokenizer);
    const controller = new AbortController();
    const options = { ...saying(tokenizer, TEXT), streamer, signal: controller.signal };
    const generation = generate(model, {}, options).catch((error: Error) => error.name);
    let text = '';
    const reading = (async () => {
      for await (const piece of streamer) {
        text += piece;
        controller.abort();
      }
    })();
    await expect(reading).rejects.toThrow(/aborted after/);
    expect(text.startsWith('Say it: ')).toBe(true);
    expect(await generation).toBe('AbortError');
  });
});

it('leaving the loop of a TextIteratorStreamer ends the generation, with what there is', async () => {
  const tokenizer = await loaded;
  const streamer = new TextIteratorStreamer(tokenizer, { skipPrompt: true });
  const slow = new LookupModel(1024, { pause: () => new Promise((resolve) => setImmediate(resolve)) });
  const options = { inputIds: [[1, 2, 3]], maxNewTokens: 4000, eosTokenId: [], streamer };
  const done = generate(slow, {}, options);
  for await (const _ of streamer) break;
  const { finishReasons, stats } = await done;
  expect(finishReasons).toEqual(['stop']);
  expect(stats.newTokens).toBeLessThan(4000);
});

describe('stop strings', () => {
  const endAt = async (text: string, stopStrings: string | string[]) => {
    const tokenizer = await loaded;
    const options = saying(tokenizer, text);
    const { sequences, finishReasons } = await generate(model, {}, { ...options, stopStrings });
    const ids = (sequences[0] as number[]).slice(options.inputIds[0]?.length);
    return [tokenizer.decode(ids), finishReasons[0]];
  };

  it('end a row as soon as one is complete, across tokens', async () => {
    expect(await endAt('plain words only, and more of them', 'words')).toEqual(['plain words', 'stop']);
    expect(await endAt('plain words only, and more of them', ['never', ', an'])).toEqual([
      'plain words only, and',
      'stop',
    ]);
  });

  it('are cut from the text, and what follows them in the same token, unless they are to be kept', async () => {
    const tokenizer = await loaded;
    const options = saying(tokenizer, 'plain words only, and more of them');
    const textOf = async (more: Partial<GenerateOptions>) => {
      const { text, stopStrings } = await generate(model, {}, { ...options, ...more });
      return [text?.[0], stopStrings?.[0]];
    };
    expect(await textOf({ stopStrings: ['never', 'ords on'] })).toEqual(['plain w', 'ords on']);
    expect(await textOf({ stopStrings: 'words', includeStopStrings: true })).toEqual([
      'plain words',
      'words',
    ]);
    expect(await textOf({ stopStrings: ['absent'] })).toEqual(['plain words only, and more of them', null]);
    expect(await textOf({})).toEqual(['plain words only, and more of them', undefined]);
  });

  it('are never streamed, while what only begins like one is, when it is certain', async () => {
    const tokenizer = await loaded;
    const options = saying(tokenizer, 'a wo b wor c words d');
    const streamed = async (more: Partial<GenerateOptions>) => {
      const pieces: string[] = [];
      const write = (piece: string) => pieces.push(piece);
      const streamer = new TextStreamer(tokenizer, { skipPrompt: true, skipSpecialTokens: true, write });
      await generate(model, {}, { ...options, streamer, ...more });
      return pieces;
    };
    const cut = await streamed({ stopStrings: ['words', 'x'] });
    expect(cut.join('')).toBe('a wo b wor c ');
    expect(cut.every((piece) => !piece.endsWith('w') && !piece.endsWith('wo'))).toBe(true);
    expect((await streamed({ stopStrings: ['words'], includeStopStrings: true })).join('')).toBe(
      'a wo b wor c words',
    );
    // The end of the text settles what was held back.
    expect((await streamed({ stopStrings: ['dx'] })).join('')).toBe('a wo b wor c words d');
  });

  it('may hold characters of several tokens', async () => {
    expect(await endAt('Hi 😀 there', '😀')).toEqual(['Hi 😀', 'stop']);
  });

  it('may be special tokens, and do nothing where they do not come', async () => {
    expect(await endAt('one<|endoftext|>two', '<|endoftext|>')).toEqual(['one<|endoftext|>', 'stop']);
    expect(await endAt('plain words', 'absent')).toEqual(['plain words<|im_end|>', 'eos']);
  });

  it('in the prompt do not count', async () => {
    expect(await endAt('plain', 'Say')).toEqual(['plain<|im_end|>', 'eos']);
  });

  it('stand beside criteria of the caller’s own', async () => {
    const tokenizer = await loaded;
    const options = saying(tokenizer, TEXT);
    const stoppingCriteria = [
      (tokens: readonly number[]) => tokens.length === (options.inputIds[0]?.length ?? 0) + 3,
    ];
    const { sequences, finishReasons } = await generate(model, {}, { ...options, stoppingCriteria });
    expect(sequences[0]).toHaveLength((options.inputIds[0]?.length ?? 0) + 3);
    expect(finishReasons).toEqual(['stop']);
  });
});
