/** Texts and conversations in, text out: `generate` with a model’s own tokenizer. On the bundled demo. */
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  AutoModelForCausalLM,
  type CausalLM,
  DEMO_MODEL,
  InputError,
  SwitchyardError,
  type Tokenizer,
} from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { continued, GREEDY, openDemo, QUESTION } from './demo.ts';

let model: CausalLM;
let tokenizer: Tokenizer;
beforeAll(async () => {
  ({ model, tokenizer } = await openDemo());
});
afterAll(() => model.dispose());

describe('generate', () => {
  it('has no text for ids before a tokenizer is known', async () => {
    const fresh = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
    const inputs = { inputIds: [[5, 6]], ...GREEDY };
    expect((await fresh.generate(inputs)).text).toBeUndefined();
    expect((await fresh.generate({ ...inputs, tokenizer })).text).toHaveLength(1);
    await fresh.tokenizer();
    expect((await fresh.generate(inputs)).text).toHaveLength(1);
    await fresh.dispose();
  });

  it('takes texts, of one length or not', async () => {
    const prompt = ['In the beginning', 'And God said unto Moses'];
    const { text, sequences } = await model.generate({ prompt, ...GREEDY });
    expect(text).toEqual(await continued({ model, tokenizer }, tokenizer(prompt)));
    expect(sequences[0]?.length).toBe(sequences[1]?.length);
    expect((await model.generate({ prompt: prompt[0] as string, ...GREEDY })).text).toEqual([text?.[0]]);
  });

  it('reads long texts piece by piece, and no further once the signal has fired', async () => {
    const long = 'And God said unto Moses. '.repeat(100_000);
    // Pieces end by the clock: with this one each word is a piece, however fast the machine is.
    let now = 0;
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => (now += 10));
    onTestFinished(() => clock.mockRestore());
    for (const input of [{ prompt: long }, { messages: [{ role: 'user', content: long }] }]) {
      const abort = new AbortController();
      let turns = 0;
      const count = () => {
        if (++turns === 20) abort.abort('enough');
        else setImmediate(count);
      };
      setImmediate(count);
      const answer = model.generate({ ...input, ...GREEDY, signal: abort.signal });
      await expect(answer).rejects.toMatchObject({ name: 'AbortError', cause: 'enough' });
    }
  });

  it('answers messages, with what the template is told', async () => {
    const { text } = await model.generate({ messages: QUESTION, ...GREEDY });
    expect(text).toEqual(
      await continued(
        { model, tokenizer },
        tokenizer.applyChatTemplate(QUESTION, { addGenerationPrompt: true }),
      ),
    );
    const own = { addGenerationPrompt: true, enable_thinking: false };
    const options = { messages: QUESTION, templateArguments: { enable_thinking: false } };
    const answer = await model.generate({ ...options, ...GREEDY });
    expect(answer.sequences[0]?.slice(0, -8)).toEqual(tokenizer.applyChatTemplate(QUESTION, own).inputIds[0]);
  });

  it('goes on with the last message', async () => {
    const messages = [...QUESTION, { role: 'assistant', content: 'Moses went up' }];
    const { text } = await model.generate({ messages, continueFinalMessage: true, ...GREEDY });
    expect(text).toEqual(
      await continued(
        { model, tokenizer },
        tokenizer.applyChatTemplate(messages, { continueFinalMessage: true }),
      ),
    );
  });

  it('finds stop strings with the model’s own tokenizer, and hands text to a function', async () => {
    const inputIds = tokenizer('In the beginning').inputIds;
    const [whole] = (await model.generate({ inputIds, ...GREEDY })).text as string[];
    const stop = (whole as string).slice(6, 10);
    let streamed = '';
    const streamer = (piece: string) => {
      streamed += piece;
    };
    const { text, stopStrings } = await model.generate({ inputIds, ...GREEDY, stopStrings: stop, streamer });
    expect([text?.[0], stopStrings?.[0]]).toEqual([(whole as string).slice(0, whole?.indexOf(stop)), stop]);
    expect(streamed).toBe(text?.[0]);
  });

  it.each<[string, object, RegExp]>([
    ['nothing to continue', {}, /generate has nothing to continue; expected inputIds, prompt or messages/],
    ['two prompts', { inputIds: [[1]], prompt: 'x' }, /inputIds and prompt exclude each other/],
    [
      'documents without messages',
      { prompt: 'x', documents: [] },
      /documents belongs to messages, but prompt is given/,
    ],
    ['an empty text', { prompt: '' }, /prompt is ""; expected a text/],
    ['an empty list', { prompt: [] }, /prompt is \[\]; expected a text/],
    [
      'messages that are none',
      { messages: [{ role: 'user', text: 'hi' }] },
      /messages\[0\]\.content is undefined/,
    ],
    [
      'a template that is not there',
      { messages: QUESTION, chatTemplate: 'rag' },
      /no chat template named "rag"/,
    ],
    ['variables that are none', { messages: QUESTION, templateArguments: 3 }, /templateArguments is 3/],
    ['a misspelt option', { message: QUESTION }, /"message" is not an option\. Did you mean "messages"/],
    [
      'a mask beside a text',
      { prompt: 'x', attentionMask: [[1]] },
      /attentionMask belongs to inputIds, but prompt is given, of which the model makes its own/,
    ],
    [
      'a mask beside messages',
      { messages: QUESTION, attentionMask: [[1]] },
      /attentionMask belongs to inputIds/,
    ],
    [
      'variables that are options',
      { messages: QUESTION, templateArguments: { tools: [] } },
      /templateArguments: tools is no variable of the template, but an option by itself/,
    ],
    [
      'something else for the tokenizer',
      { prompt: 'x', tokenizer: {} },
      /generate: tokenizer is \{\}; expected a tokenizer/,
    ],
  ])('refuses %s', async (_, options, message) => {
    const promise = model.generate(options);
    await expect(promise).rejects.toThrow(message);
    await expect(promise).rejects.toBeInstanceOf(InputError);
  });
});

it('a repo without a tokenizer says so when text is asked for', async () => {
  await using plain = await AutoModelForCausalLM.fromPretrained(goldenModel('qwen2_moe_window'));
  const promise = plain.generate({ prompt: 'x' });
  await expect(promise).rejects.toBeInstanceOf(SwitchyardError);
  await expect(promise).rejects.toThrow(/tokenizer/);
});
