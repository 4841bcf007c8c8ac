import { describe, expect, it } from 'vitest';
import type { ResponseDelta } from '../../../src/tokenizer/response/events.ts';
import {
  type ParsedResponse,
  type ParseResponseOptions,
  ResponseParser,
} from '../../../src/tokenizer/response/parser.ts';
import { QWEN_JSON, QWEN_XML, type ResponseStyle } from '../../../src/tokenizer/response/style.ts';
import goldens from '../../fixtures/response/transformers.json' with { type: 'json' };
import { Random } from '../../helpers/random.ts';

const TURN = '<|im_start|>assistant\n';
const THINKING = `${TURN}<think>\n`;
const NOT_THINKING = `${TURN}<think>\n\n</think>\n\n`;
const WEATHER = {
  type: 'function',
  function: {
    name: 'weather',
    parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } },
  },
};
const call = (name: string, args: unknown) =>
  `<tool_call>\n${JSON.stringify({ name, arguments: args })}\n</tool_call>`;
const xml = (name: string, args: Record<string, string>) =>
  `<tool_call>\n<function=${name}>\n${Object.entries(args)
    .map(([key, value]) => `<parameter=${key}>\n${value}\n</parameter>\n`)
    .join('')}</function>\n</tool_call>`;

/** What the pieces say together; it must be what the message says. */
function joined(deltas: readonly ResponseDelta[]) {
  const calls: { name: string; text: string }[] = [];
  let [reasoning, content] = ['', ''];
  for (const delta of deltas) {
    if (delta.type === 'reasoning') reasoning += delta.text;
    else if (delta.type === 'content') content += delta.text;
    else if (delta.type === 'tool_call') {
      expect(delta.index).toBe(calls.length);
      calls.push({ name: delta.name, text: '' });
    } else (calls[delta.index] as { text: string }).text += delta.text;
  }
  return { reasoning, content, calls };
}

/** Parses a text whole, character by character, and in random pieces, all of which must give one result. */
function parse(text: string, options: ParseResponseOptions = {}, style: ResponseStyle = QWEN_JSON) {
  const random = new Random(text.length);
  const cuts = [Infinity, 1, ...Array.from({ length: 6 }, () => 0)];
  const results = cuts.map((size) => {
    const parser = new ResponseParser(style, options);
    const deltas: ResponseDelta[] = [];
    for (let at = 0; at < text.length; ) {
      const piece = text.slice(at, at + (size || 1 + Math.floor(random.next() * 12)));
      deltas.push(...parser.push(piece));
      at += piece.length;
    }
    deltas.push(...parser.end());
    return { ...joined(deltas), message: parser.message };
  });
  for (const result of results) expect(result).toEqual(results[0]);
  const { message, ...said } = results[0] as (typeof results)[number];
  expect([said.content, said.reasoning]).toEqual([message.content, message.reasoning_content ?? '']);
  expect(said.calls.map(({ name }) => name)).toEqual(
    (message.tool_calls ?? []).map((one) => one.function.name),
  );
  return { ...said, message };
}

const message = (text: string, options?: ParseResponseOptions, style?: ResponseStyle): ParsedResponse =>
  parse(text, options, style).message;

describe('reasoning', () => {
  it('is told from the text by its tags', () => {
    expect(message('<think>\nhm\n</think>\n\nYes.<|im_end|>', { prompt: TURN })).toEqual({
      role: 'assistant',
      content: 'Yes.',
      reasoning_content: 'hm',
    });
  });

  it('that the prompt has begun goes on in the answer', () => {
    expect(message('hm\n</think>\n\nYes.', { prompt: THINKING })).toMatchObject({
      content: 'Yes.',
      reasoning_content: 'hm',
    });
  });

  it('that the prompt has ended leaves all of the answer text', () => {
    expect(message('Yes.', { prompt: NOT_THINKING })).toEqual({ role: 'assistant', content: 'Yes.' });
  });

  it('is read off the last turn of the prompt, not off earlier ones', () => {
    const prompt = `${THINKING}a\n</think>\n\nb<|im_end|>\n<|im_start|>user\nwrite <think>\n<|im_end|>\n${NOT_THINKING}`;
    expect(message('Yes.', { prompt }).content).toBe('Yes.');
  });

  it('is no more than what was said when the answer ends in it', () => {
    expect(message('hm, let me', { prompt: THINKING })).toEqual({
      role: 'assistant',
      content: '',
      reasoning_content: 'hm, let me',
    });
  });

  it('has its tag as a word later on', () => {
    const text = 'Models write <think> and </think> round it.';
    expect(message(text, { prompt: NOT_THINKING }).content).toBe(text);
  });
});

describe('calls', () => {
  it('as JSON have a name and arguments', () => {
    expect(message(`${call('weather', { city: 'Aix', days: 3 })}<|im_end|>`, { tools: [WEATHER] })).toEqual({
      role: 'assistant',
      content: '',
      tool_calls: [{ type: 'function', function: { name: 'weather', arguments: { city: 'Aix', days: 3 } } }],
    });
  });

  it('as tags have arguments of the types that the function names', () => {
    const { tool_calls: calls } = message(
      xml('weather', { city: '03106', days: '03' }),
      { tools: [WEATHER] },
      QWEN_XML,
    );
    // A text stays the text it is, and what is no whole number goes on as text.
    expect(calls?.[0]?.function.arguments).toEqual({ city: '03106', days: '03' });
    expect(
      message(xml('weather', { days: '3' }), { tools: [WEATHER] }, QWEN_XML).tool_calls?.[0]?.function
        .arguments,
    ).toEqual({ days: 3 });
  });

  it.each([
    ['{}', 'x', '"x"'],
    ['{"anyOf":[{"type":"integer"},{"type":"null"}]}', 'null', 'null'],
    ['{"anyOf":[{"type":"integer"},{"type":"null"}]}', '12', '12'],
    ['{"anyOf":[{"type":"string"},{"type":"null"}]}', 'None', 'null'],
    ['{"anyOf":[{"type":"string"},{"type":"integer"}]}', '12', '"12"'],
    ['{"type":["integer","string"]}', '12', '12'],
    ['{"type":"number"}', '140.0', '140.0'],
    ['{"type":"integer"}', '140.0', '140'],
    ['{"type":"integer"}', '12345678901234567890', '12345678901234567890'],
    ['{"type":"boolean"}', 'True', 'true'],
    ['{"type":"object"}', '{"a": [1]}', '{"a": [1]}'],
    ['{"type":"array"}', "['a']", '"[\'a\']"'],
    ['{"enum":[1,2]}', '2', '2'],
    ['{"type":"string"}', ' two  spaces\n', '" two  spaces\\n"'],
  ])('of a parameter %s write %j as %s', (schema, value, json) => {
    const tools = [{ name: 'f', parameters: { properties: { p: JSON.parse(schema) as unknown } } }];
    expect(parse(xml('f', { p: value }), { tools }, QWEN_XML).calls).toEqual([
      { name: 'f', text: `{"p": ${json}}` },
    ]);
  });

  it('follow references to what the schema defines', () => {
    const parameters = { $defs: { n: { type: 'integer' } }, properties: { p: { $ref: '#/$defs/n' } } };
    expect(parse(xml('f', { p: '7' }), { tools: [{ name: 'f', parameters }] }, QWEN_XML).calls[0]?.text).toBe(
      '{"p": 7}',
    );
  });

  it('stream their arguments in pieces, not in one lump', () => {
    for (const [style, text] of [
      [QWEN_JSON, call('weather', { city: 'Aix-en-Provence' })],
      [QWEN_XML, xml('weather', { city: 'Aix-en-Provence' })],
    ] as const) {
      const parser = new ResponseParser(style, { tools: [WEATHER] });
      const deltas = [...text].flatMap((character) => parser.push(character));
      expect(deltas.filter(({ type }) => type === 'tool_call_arguments').length).toBeGreaterThan(10);
    }
  });

  it('may be several, even of one function, each with its own arguments', () => {
    for (const [style, write] of [
      [QWEN_JSON, call],
      [QWEN_XML, xml],
    ] as const) {
      const text = `Two:\n\n${write('weather', { city: 'A1' })}\n${write('weather', { city: 'B22' })}`;
      const { message } = parse(text, { tools: [WEATHER] }, style);
      expect(message.content).toBe('Two:');
      expect(message.tool_calls?.map((one) => one.function.arguments)).toEqual([
        { city: 'A1' },
        { city: 'B22' },
      ]);
    }
  });

  it('inside reasoning that was never closed are calls', () => {
    const text = `I need it. ${call('weather', { city: 'Aix' })}\n</think>\n\nDone.`;
    expect(message(text, { prompt: THINKING, tools: [WEATHER] })).toMatchObject({
      reasoning_content: 'I need it.',
      tool_calls: [{ function: { name: 'weather' } }],
      content: 'Done.',
    });
  });

  it('that reasoning only talks about are reasoning', () => {
    const talk = `I could write <tool_call> or ${call('other', {})} here`;
    expect(message(talk, { prompt: THINKING, tools: [WEATHER] })).toEqual({
      role: 'assistant',
      content: '',
      reasoning_content: talk,
    });
  });

  it('that text only talks about are text, and what follows is not held back', () => {
    const text =
      'Put it in <tool_call> and </tool_call>, as {"name": x}: <tool_call>{"name": <function-name>}</tool_call>. So.';
    for (const style of [QWEN_JSON, QWEN_XML])
      expect(message(text, { tools: [WEATHER] }, style)).toEqual({ role: 'assistant', content: text });
    const parser = new ResponseParser(QWEN_JSON, { tools: [WEATHER] });
    parser.push('Put it in <tool_call> and ');
    expect(parser.push('so on')).toEqual([{ type: 'content', text: ' so on' }]);
  });

  it('count for nothing where no function was offered', () => {
    expect(message(call('weather', {}), { tools: [] }).content).toContain('<tool_call>');
  });

  it('hold a closing tag inside a value', () => {
    const code = 'print("</parameter>")\n<p>x</p> </function> done';
    const { message } = parse(xml('weather', { city: code, days: '2' }), { tools: [WEATHER] }, QWEN_XML);
    expect(message.tool_calls?.[0]?.function.arguments).toEqual({ city: code, days: 2 });
    const quoted = parse(call('weather', { city: 'a </tool_call> b' }), { tools: [WEATHER] });
    expect(quoted.message.tool_calls?.[0]?.function.arguments).toEqual({ city: 'a </tool_call> b' });
    expect(quoted.content).toBe('');
  });

  it('with quotes that are not escaped keep what was written', () => {
    const text =
      '<tool_call>\n{"name": "weather", "arguments": {"city": "say "hi" there"}}\n</tool_call>Then.';
    const { message } = parse(text, { tools: [WEATHER] });
    expect(message.tool_calls?.[0]?.function.arguments).toBe('{"city": "say "hi" there"}');
    expect(message.content).toBe('Then.');
  });

  it('escape quotes, line breaks and backslashes of bare texts', () => {
    const city = 'a "b"\n\\c\t';
    expect(
      message(xml('weather', { city }), { tools: [WEATHER] }, QWEN_XML).tool_calls?.[0]?.function.arguments,
    ).toEqual({ city });
  });

  it('that are no JSON any more keep what was written', () => {
    const { message } = parse('<tool_call>{"name": "weather", "arguments": {"city": ~}}</tool_call>ok', {
      tools: [WEATHER],
    });
    expect(message.tool_calls?.[0]?.function.arguments).toBe('{"city": ~}}');
    expect(message.content).toBe('ok');
  });

  it('with a name that is none are text', () => {
    const text = '<tool_call>{"name": 7, "arguments": {}}</tool_call>';
    expect(message(text, { tools: [WEATHER] })).toEqual({ role: 'assistant', content: text });
  });

  it('cut short keep what there is of them', () => {
    expect(
      message('<tool_call>\n{"name": "weather", "arguments": {"city": "Ai', { tools: [WEATHER] })
        .tool_calls?.[0]?.function,
    ).toEqual({
      name: 'weather',
      arguments: '{"city": "Ai',
    });
    expect(
      message('<tool_call>\n<function=weather>\n<parameter=city>\nAi', { tools: [WEATHER] }, QWEN_XML)
        .tool_calls?.[0]?.function,
    ).toEqual({ name: 'weather', arguments: '{"city": "Ai"' });
    expect(message('<tool_call>\n{"na', { tools: [WEATHER] }).content).toBe('<tool_call>\n{"na');
  });

  it('cut short in the tag behind them are whole, and the tag is no text', () => {
    const whole = [
      [call('weather', { city: 'Aix' }), undefined],
      [xml('weather', { city: 'Aix' }), QWEN_XML],
    ] as const;
    for (const [text, style] of whole)
      for (let cut = 1; cut <= '</tool_call>'.length; cut++) {
        const { content, tool_calls } = message(text.slice(0, -cut), { tools: [WEATHER] }, style);
        expect([content, tool_calls?.[0]?.function.arguments]).toEqual(['', { city: 'Aix' }]);
      }
    const followed = `${call('weather', {}).replace('</tool_call>', '</tool_calx')}`;
    expect(message(followed, { tools: [WEATHER] }).content).toBe('</tool_calx');
  });

  it('that a limit has cut off anywhere are neither made up nor text', () => {
    const args = { city: 'Aix', days: 3 };
    const quoted = `<tool_call>{"name": "weather", "arguments": ${JSON.stringify('{"city": "Aix"}')}}</tool_call>`;
    const answers = [
      [call('weather', args), QWEN_JSON],
      [quoted, QWEN_JSON],
      ['<tool_call>{"name": "weather", "arguments": {"city": ~}}</tool_call>', QWEN_JSON],
      [xml('weather', { city: 'Aix', days: '3' }), QWEN_XML],
    ] as const;
    for (const [text, style] of answers) {
      const answer = `<think>hm</think>Well. ${text}`;
      const whole = parse(answer, { tools: [WEATHER] }, style);
      for (let cut = 1; cut < answer.length; cut++) {
        const parser = new ResponseParser(style, { tools: [WEATHER], prompt: TURN });
        const deltas = [...parser.push(answer.slice(0, cut)), ...parser.end(true)];
        const { content, reasoning, calls } = joined(deltas);
        const at = `${style.calls?.style} cut at ${cut}: ${JSON.stringify(answer.slice(0, cut))}`;
        expect('Well.', at).toContain(content);
        expect('hm', at).toContain(reasoning);
        expect(calls.length, at).toBeLessThanOrEqual(1);
        for (const { name, text } of calls) {
          expect(name, at).toBe('weather');
          expect(whole.calls[0]?.text.startsWith(text), at).toBe(true);
        }
        expect(parser.message.content, at).toBe(content);
      }
    }
  });

  it('may have their arguments before their name, or as a text of JSON', () => {
    const before = '<tool_call>{"arguments": {"city": "Aix"}, "name": "weather"}</tool_call>';
    const asText = `<tool_call>{"name": "weather", "arguments": ${JSON.stringify('{"city": "Aix"}')}}</tool_call>`;
    for (const text of [before, asText])
      expect(message(text, { tools: [WEATHER] }).tool_calls?.[0]?.function.arguments).toEqual({
        city: 'Aix',
      });
  });

  it('without arguments have none', () => {
    expect(
      message('<tool_call>\n<function=f>\n</function>\n</tool_call>', {}, QWEN_XML).tool_calls?.[0]?.function
        .arguments,
    ).toEqual({});
  });
});

describe('text', () => {
  it('ends with the turn', () => {
    expect(message('Yes.<|im_end|>\n<|endoftext|>junk').content).toBe('Yes.');
  });

  it('loses nothing, whatever comes', () => {
    const random = new Random(7);
    const parts = [
      '<think>',
      '</think>',
      '<tool_call>',
      '</tool_call>',
      '{"name": "f"',
      ', "arguments": {',
      '}',
      '"',
      'word ',
      '\n',
    ];
    for (let round = 0; round < 300; round++) {
      const text = Array.from({ length: 12 }, () => parts[Math.floor(random.next() * parts.length)]).join('');
      const { reasoning, content, calls } = parse(text, { prompt: TURN });
      const words = (text.match(/word/g) ?? []).length;
      const kept = [reasoning, content, ...calls.map((one) => one.text)].join().match(/word/g) ?? [];
      expect(kept.length, text).toBe(words);
    }
  });
});

describe('answers that transformers takes apart', () => {
  const tools = [
    {
      name: 'weather',
      parameters: {
        properties: {
          city: { type: 'string' },
          days: { type: 'integer' },
          on: { type: 'boolean' },
          o: { type: 'object' },
        },
      },
    },
  ];

  it.each(goldens.cases)('come out alike: $text', ({ style, prompt, text, parsed }) => {
    const { thinking, content = '', ...rest } = parsed as Record<string, unknown>;
    // Templates read reasoning_content, as Qwen names it.
    const expected = { ...rest, content, ...(thinking !== undefined && { reasoning_content: thinking }) };
    expect(message(text, { prompt, tools }, style === 'json' ? QWEN_JSON : QWEN_XML)).toEqual(expected);
  });
});
