/** Text and conversations in, text out: what a model does with its own tokenizer. On the bundled demo. */
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  AutoProcessor,
  AutoTokenizer,
  type CausalLM,
  DEMO_MODEL,
  GenerationAbortError,
  InputError,
  SwitchyardError,
  TextIteratorStreamer,
  type Tokenizer,
} from '../../src/index.ts';
import { goldenModel } from '../helpers/goldens.ts';

const GREEDY = { doSample: false, maxNewTokens: 8 };
const QUESTION = [{ role: 'user', content: 'Speak of Moses.' }];

let model: CausalLM;
let tokenizer: Tokenizer;
beforeAll(async () => {
  model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
  tokenizer = await AutoTokenizer.fromPretrained(DEMO_MODEL);
});
afterAll(() => model.dispose());

/** The continuation of ids, as text. */
async function continued(inputs: { inputIds: number[][]; attentionMask: number[][] }, options = {}) {
  const { sequences } = await model.generate({ ...inputs, ...GREEDY, ...options });
  const width = inputs.inputIds[0]?.length;
  return sequences.map((row) => tokenizer.decode(row.slice(width), { skipSpecialTokens: true }));
}

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
    expect(text).toEqual(await continued(tokenizer(prompt)));
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
      await continued(tokenizer.applyChatTemplate(QUESTION, { addGenerationPrompt: true })),
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
      await continued(tokenizer.applyChatTemplate(messages, { continueFinalMessage: true })),
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
    expect([first.text]).toEqual(await continued(rendered(said)));
    const second = await chat.send('And of Aaron?');
    const asked = [
      ...said,
      { role: 'assistant', content: first.text },
      { role: 'user', content: 'And of Aaron?' },
    ];
    expect([second.text]).toEqual(await continued(rendered(asked)));
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

describe('a model', () => {
  it('is one line on the console', () => {
    expect(inspect(model)).toMatch(
      /^CausalLM\(demo: qwen3_moe, bfloat16 on the CPU, experts grouped_mm, context \d+\)$/,
    );
  });

  it('is disposed of at the end of its block', async () => {
    let kept: CausalLM;
    {
      await using inside = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
      kept = inside;
    }
    await expect(kept.generate({ inputIds: [[1]] })).rejects.toThrow(/was disposed/);
  });

  it('says once that the default length has cut', async () => {
    const warnings: string[] = [];
    const told = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL, {
      onWarning: (text) => warnings.push(text),
    });
    for (let i = 0; i < 2; i++) await told.generate({ inputIds: [[1, 2]], doSample: false, eosTokenId: [] });
    expect(warnings).toEqual([expect.stringMatching(/after 256 new tokens/)]);
    await told.dispose();
  });
});

describe('a model that sees', () => {
  it('takes messages with their pictures, as its processor does', async () => {
    const folder = goldenModel('qwen3_vl_moe_e');
    await using sees = await AutoModelForImageTextToText.fromPretrained(folder);
    const processor = await AutoProcessor.fromPretrained(folder);
    const image = {
      data: new Uint8Array(3 * 64 * 64).map((_, i) => i),
      width: 64,
      height: 64,
      channels: 3,
    } as const;
    const messages = [
      {
        role: 'user',
        content: [
          { type: 'image', image },
          { type: 'text', text: 'What?' },
        ],
      },
    ];
    const inputs = await processor.applyChatTemplate(messages, { addGenerationPrompt: true });
    const expected = await sees.generate({ ...inputs, maxNewTokens: 4, doSample: false });
    expect((await sees.generate({ messages, maxNewTokens: 4, doSample: false })).sequences).toEqual(
      expected.sequences,
    );
    const chat = await sees.chat({ maxNewTokens: 4, doSample: false });
    await chat.send(messages[0]?.content ?? '');
    await chat.send('And now?');
    expect(chat.messages).toHaveLength(4);
  });

  it('that sees, opened for text alone, refuses pictures by index', async () => {
    await using blind = await AutoModelForCausalLM.fromPretrained(goldenModel('qwen3_5_moe_j'));
    for (const type of ['image', 'image_url', 'video']) {
      const content = [
        { type: 'text', text: 'Look: ' },
        { type, [type]: 'x.png' },
      ];
      await expect(blind.generate({ messages: [{ role: 'user', content }] })).rejects.toThrow(
        `messages[0].content[1] is of type "${type}", but the model was opened for text alone`,
      );
    }
  });

  it('of text alone refuses pictures by index', async () => {
    const content = [{ type: 'image', image: 'x.png' }];
    await expect(model.generate({ messages: [{ role: 'user', content }] })).rejects.toThrow(
      /messages\[0\]\.content\[0\]/,
    );
  });
});

it('a repo without a tokenizer says so when text is asked for', async () => {
  await using plain = await AutoModelForCausalLM.fromPretrained(goldenModel('qwen2_moe_window'));
  const promise = plain.generate({ prompt: 'x' });
  await expect(promise).rejects.toBeInstanceOf(SwitchyardError);
  await expect(promise).rejects.toThrow(/tokenizer/);
});

it('a model that was disposed of takes no settings, listeners or caches', async () => {
  const gone = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
  await gone.dispose();
  const calls = [
    () => gone.setExpertsImplementation('eager'),
    () => gone.on('routing', () => {}),
    () => gone.createCache(),
  ];
  for (const call of calls) expect(call).toThrow(/the model was disposed; load it again/);
  await expect(gone.loadCache('any.safetensors')).rejects.toThrow(/the model was disposed/);
});
