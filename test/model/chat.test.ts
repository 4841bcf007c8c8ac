/** Conversations that a model remembers: turns, their ends, and what they take. On the bundled demo. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CausalLM, GenerationAbortError, type Tokenizer } from '../../src/index.ts';
import { continued, GREEDY, openDemo, QUESTION } from './demo.ts';

let model: CausalLM;
let tokenizer: Tokenizer;
beforeAll(async () => {
  ({ model, tokenizer } = await openDemo());
});
afterAll(() => model.dispose());

describe('chat', () => {
  const rendered = (messages: { role: string; content: string }[]) =>
    tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });

  it('remembers', async () => {
    const chat = await model.chat({ system: 'Thou art a prophet.', ...GREEDY });
    const first = await chat.send('Speak of Moses.');
    const said = [
      { role: 'system', content: 'Thou art a prophet.' },
      { role: 'user', content: 'Speak of Moses.' },
    ];
    expect([first.text]).toEqual(await continued({ model, tokenizer }, rendered(said)));
    const second = await chat.send('And of Aaron?');
    const asked = [
      ...said,
      { role: 'assistant', content: first.text },
      { role: 'user', content: 'And of Aaron?' },
    ];
    expect([second.text]).toEqual(await continued({ model, tokenizer }, rendered(asked)));
    expect(chat.messages).toEqual([...asked, second.message]);
    chat.messages.pop();
    expect(chat.messages).toHaveLength(5);
  });

  it('streams, and takes options for one answer', async () => {
    const chat = await model.chat({
      ...GREEDY,
      messages: QUESTION.concat({ role: 'assistant', content: 'Yea.' }),
    });
    const stream = chat.stream('More.', { maxNewTokens: 3 });
    let text = '';
    for await (const piece of stream) text += piece;
    expect((await stream.reply).text).toBe(text);
    expect((await stream.reply).output.stats.newTokens).toBe(3);
    expect(chat.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'user', 'assistant']);
  });

  it('is as before where an answer fails or is left, and goes on', async () => {
    const chat = await model.chat({ doSample: false, maxNewTokens: 500, eosTokenId: [] });
    const left = chat.stream('Speak of Moses.');
    for await (const _ of left) break;
    await expect(left.reply).rejects.toBeInstanceOf(GenerationAbortError);
    expect(chat.messages).toEqual([]);
    await expect(chat.send('Speak.', { topP: 7 })).rejects.toThrow(/topP is 7/);
    await expect(chat.send([{ role: 'user', content: 4 }])).rejects.toThrow(/messages\[0\]\.content is 4/);
    expect((await chat.send('Speak.', { maxNewTokens: 2 })).text).not.toBe('');
    expect(chat.messages).toHaveLength(2);
  });

  it('answers at once after a turn that was left, aborted, or aborted before it began', async () => {
    const chat = await model.chat({ doSample: false, maxNewTokens: 500, eosTokenId: [] });
    const short = { maxNewTokens: 3 };
    const alone = await (await model.chat(GREEDY)).send('Speak.', short);
    for await (const _ of chat.stream('Speak of Moses.')) break;
    for await (const _ of chat.stream('Speak of Moses.').deltas()) break;
    const aborted = chat.stream('Speak of Aaron.');
    aborted.abort();
    const controller = new AbortController();
    const ended = chat.stream('Speak of David.', { signal: controller.signal });
    controller.abort();
    const next = chat.stream('Speak.', short);
    await expect(chat.send('Now!')).rejects.toThrow(/answering another turn/);
    expect((await next.reply).output.sequences).toEqual(alone.output.sequences);
    for (const { reply } of [aborted, ended])
      await expect(reply).rejects.toMatchObject({ name: 'AbortError' });
    expect(chat.messages).toEqual([{ role: 'user', content: 'Speak.' }, alone.message]);
  });

  it('goes on after a turn whose loop was left at its very end', async () => {
    const chat = await model.chat({ ...GREEDY, maxNewTokens: 1 });
    const first = chat.stream('Speak.');
    await first.reply;
    for await (const _ of first) break;
    await chat.send('More.');
    expect(chat.messages).toHaveLength(4);
  });

  it('takes one turn at a time', async () => {
    const chat = await model.chat(GREEDY);
    const first = chat.send('Speak.');
    await expect(chat.send('Now!')).rejects.toThrow(/answering another turn/);
    await first;
    await chat.send('Again.');
  });

  it('tells calls of tools from text, and takes their results', async () => {
    const parameters = {
      type: 'object',
      properties: { days: { type: 'integer', minimum: 1, maximum: 9 } },
      required: ['days'],
    };
    const tools = [{ type: 'function', function: { name: 'weather', parameters } }];
    const chat = await model.chat({ tools, parallelToolCalls: false, frequencyPenalty: 2, seed: 3 });
    const stream = chat.stream('Will it rain?', { toolChoice: 'required' });
    const deltas = [];
    for await (const delta of stream.deltas()) deltas.push(delta);
    const { text, toolCalls, message } = await stream.reply;
    expect(text).toBe('');
    expect(toolCalls).toMatchObject([
      { function: { name: 'weather', arguments: { days: expect.any(Number) } } },
    ]);
    expect(deltas[0]).toEqual({ type: 'tool_call', index: 0, name: 'weather' });
    const pieces = deltas.flatMap((delta) => (delta.type === 'tool_call_arguments' ? delta.text : []));
    expect(JSON.parse(pieces.join(''))).toEqual(toolCalls?.[0]?.function.arguments);
    expect(chat.messages[1]).toEqual(message);
    await chat.send({ role: 'tool', content: 'No.' }, { toolChoice: 'none', maxNewTokens: 3 });
    expect(chat.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool', 'assistant']);
  });

  it('takes parts and messages for a turn', async () => {
    const chat = await model.chat(GREEDY);
    await chat.send([
      { type: 'text', text: 'Speak' },
      { type: 'text', text: ' of Moses.' },
    ]);
    const whole = await model.generate({ messages: QUESTION, ...GREEDY });
    expect(chat.messages[1]?.content).toBe(whole.text?.[0]);
    await chat.send({ role: 'user', content: 'More.' });
    expect(chat.messages).toHaveLength(4);
  });

  it.each<[object, RegExp]>([
    [null as never, /chat: the options is null; expected an object/],
    [{ system: 3 }, /chat: system is 3; expected a text/],
    [{ sytem: 'x' }, /chat: "sytem" is not an option/],
    [{ prompt: 'x' }, /prompt is the chat's own/],
    [{ messages: [{ content: 'x' }] }, /messages\[0\]\.role is undefined/],
    [{ maxNewTokens: 0 }, /maxNewTokens is 0/],
    [{ signal: AbortSignal.abort() }, /chat: signal ends a single answer; give it to send or stream/],
    [
      { messages: [{ role: 'usr', content: 'x' }] },
      /messages\[0\]\.role is "usr"; expected one of system, .* user/,
    ],
  ])('refuses %o', async (options, message) => {
    await expect(model.chat(options)).rejects.toThrow(message);
  });

  it.each([
    { turn: undefined },
    { turn: 3 },
    { turn: [] },
    { turn: [{ type: 'text', text: 'x' }, QUESTION[0]] },
  ])('refuses the turn $turn', async ({ turn }) => {
    const chat = await model.chat();
    await expect(chat.send(turn as never)).rejects.toThrow(/turn is .*expected a text/);
    const stray = [{ role: 'x', content: 'Hm.' }];
    await expect(chat.send(stray)).rejects.toThrow(/messages\[0\]\.role is "x"; expected one of system/);
    await expect(chat.send('x', { streamer: () => {} } as never)).rejects.toThrow(
      /streamer is the chat's own/,
    );
  });
});
