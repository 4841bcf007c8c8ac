/** Text as it comes: what a loop over `stream` gives, and how it ends. On the bundled demo. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type CausalLM,
  GenerationAbortError,
  InputError,
  TextIteratorStreamer,
  type Tokenizer,
} from '../../src/index.ts';
import { GREEDY, openDemo, QUESTION } from './demo.ts';

let model: CausalLM;
let tokenizer: Tokenizer;
beforeAll(async () => {
  ({ model, tokenizer } = await openDemo());
});
afterAll(() => model.dispose());

describe('stream', () => {
  it('gives the text as it comes, and the whole result', async () => {
    const stream = model.stream({ prompt: 'In the beginning', ...GREEDY });
    const pieces: string[] = [];
    for await (const piece of stream) pieces.push(piece);
    const { text, sequences } = await stream.output;
    expect(pieces.join('')).toBe(text?.[0]);
    expect(pieces.length).toBeGreaterThan(2);
    expect(sequences).toEqual((await model.generate({ prompt: 'In the beginning', ...GREEDY })).sequences);
    await expect(stream[Symbol.asyncIterator]().next()).rejects.toThrow(/read once/);
  });

  it('is aborted by leaving the loop', async () => {
    const stream = model.stream({
      prompt: 'In the beginning',
      doSample: false,
      maxNewTokens: 900,
      eosTokenId: [],
    });
    for await (const _ of stream) break;
    const error = await stream.output.catch((failure: unknown) => failure);
    expect(error).toBeInstanceOf(GenerationAbortError);
    expect((error as GenerationAbortError).partial.stats.newTokens).toBeLessThan(900);
  });

  it('is aborted by its signal, and throws in the loop what ended it', async () => {
    const abort = new AbortController();
    const stream = model.stream({
      prompt: 'In the beginning',
      maxNewTokens: 900,
      eosTokenId: [],
      signal: abort.signal,
    });
    const read = async () => {
      for await (const _ of stream) abort.abort('enough');
    };
    await expect(read()).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
  });

  it('throws what is wrong with its options', async () => {
    const read = async (options: object) => {
      for await (const _ of model.stream(options));
    };
    await expect(read({ prompt: 'x', topP: 3 })).rejects.toThrow(/topP is 3/);
    await expect(read({ prompt: ['x', 'y'] })).rejects.toThrow(/follows one row/);
    expect(() => model.stream({ prompt: 'x', streamer: () => {} })).toThrow(/takes no streamer/);
    expect(() => model.stream({ prompt: 'x' }, {} as never)).toThrow(/takes no further argument/);
  });

  it('names what is wrong with its tokenizer, as a chat does', async () => {
    await expect(model.stream({ prompt: 'x', tokenizer: {} as never }).output).rejects.toThrow(
      /tokenizer is \{\}; expected/,
    );
    await expect(model.chat({ tokenizer: {} as never })).rejects.toThrow(/chat: tokenizer is \{\}; expected/);
    const chat = await model.chat();
    await expect(chat.send('x', { tokenizer: {} as never })).rejects.toThrow(/tokenizer is \{\}; expected/);
  });

  it('heeds a signal of another realm, and names what is none', async () => {
    // As of a page: no EventTarget of Node's.
    const heard = new Set<() => void>();
    const signal = {
      aborted: false,
      reason: undefined as unknown,
      addEventListener: (_: string, listener: () => void) => void heard.add(listener),
      removeEventListener: (_: string, listener: () => void) => void heard.delete(listener),
    };
    const options = { prompt: 'In the beginning', ...GREEDY, eosTokenId: [], signal: signal as never };
    const whole = await model.generate({ ...options, maxNewTokens: 2 });
    expect((await model.stream({ ...options, maxNewTokens: 2 }).output).text).toEqual(whole.text);
    expect(heard.size).toBe(0);
    const stream = model.stream({ ...options, maxNewTokens: 900 });
    const read = async () => {
      for await (const _ of stream) {
        Object.assign(signal, { aborted: true, reason: 'enough' });
        for (const listener of [...heard]) listener();
      }
    };
    await expect(read()).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    const none = { prompt: 'x', signal: 5 as never };
    await expect(model.stream(none).output).rejects.toThrow(/generate: signal is 5; expected an AbortSignal/);
  });

  it('says of a signal that has fired before that the call was aborted', async () => {
    const signal = AbortSignal.abort('enough');
    const chat = await model.chat();
    for (const call of [
      model.generate({ prompt: 'x', signal }),
      model.generate({ messages: QUESTION, signal }),
      model.generate({ inputIds: [[5]], signal }),
      model.stream({ prompt: 'x', signal }).output,
      chat.send('x', { signal }),
    ])
      await expect(call).rejects.toMatchObject({
        name: 'AbortError',
        message: 'generate was aborted',
        cause: 'enough',
      });
  });

  it('by a streamer that is a loop ends where the call is refused', async () => {
    const read = async (options: object) => {
      const streamer = new TextIteratorStreamer(tokenizer);
      const refused = expect(model.generate({ ...options, streamer })).rejects.toThrow(InputError);
      const reading = (async () => {
        for await (const _ of streamer);
      })();
      await expect(reading).rejects.toThrow(InputError);
      await refused;
    };
    await read({ inputIds: [[5]], topP: 3 });
    await read({ inputIds: [[5], [6]] });
    await read({});
  });

  it('that nobody reads fails without a word', async () => {
    const stream = model.stream({});
    await expect(stream.output).rejects.toThrow(/nothing to continue/);
  });
});
