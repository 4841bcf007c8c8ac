import { describe, expect, it } from 'vitest';
import { type AnswerRules, answerGrammar, type CallableTool } from '../../src/structured/answer.ts';
import { matches } from './random-text.ts';

const weather: CallableTool = {
  name: 'weather',
  parameters: {
    type: 'object',
    properties: {
      city: { type: 'string' },
      days: { type: 'integer', maximum: 5 },
      code: { type: 'string', pattern: '^[a-z]+$' },
    },
    required: ['city'],
  },
  isStrict: true,
  path: 'tools[0].function.parameters',
};
const now: CallableTool = {
  name: 'now',
  parameters: undefined,
  isStrict: true,
  path: 'tools[1].function.parameters',
};
const calls = { open: '<tool_call>', close: '</tool_call>' };
const rules = (changes: Partial<AnswerRules>): AnswerRules => ({
  format: { type: 'text' },
  tools: [],
  toolChoice: 'auto',
  maxCalls: 4,
  calls: { ...calls, style: 'json' },
  reasoning: undefined,
  ...changes,
});
const lets = (given: Partial<AnswerRules>, text: string) => matches(answerGrammar(rules(given)), text);
const CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Aix", "days": 3}}\n</tool_call>';
const XML_CALL =
  '<tool_call>\n<function=weather>\n<parameter=city>\nA"ix\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>';

describe('a format', () => {
  const format = {
    type: 'json_schema',
    schema: { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] },
  } as const;
  const reasoning = { open: '<think>', close: '</think>' };

  it('holds from the first character where the model does not reason', () => {
    expect(lets({ format }, '{"a": 1}')).toBe(true);
    expect(lets({ format }, 'Sure: {"a": 1}')).toBe(false);
    expect(lets({ format, reasoning: { ...reasoning, start: 'none' } }, '<think>x</think>{"a": 1}')).toBe(
      false,
    );
  });

  it('holds behind reasoning that the prompt has begun, and lets the answer not end before', () => {
    const given = { format, reasoning: { ...reasoning, start: 'inside' } } as const;
    expect(lets(given, 'so <b> {"a": 1}, hm</think>\n\n{"a": 1}')).toBe(true);
    for (const text of ['', 'so', 'so</think>', '{"a": 1}', 'so</think>\n\nno'])
      expect(lets(given, text), text).toBe(false);
  });

  it('lets a model reason or not where the prompt leaves it free', () => {
    const given = { format, reasoning: { ...reasoning, start: 'before' } } as const;
    expect(lets(given, '<think>\nso\n</think>\n\n{"a": 1}')).toBe(true);
    expect(lets(given, '{"a": 1}')).toBe(true);
    expect(lets(given, '<thinking')).toBe(false);
  });

  it('may be any object, or what a regular expression matches as a whole', () => {
    expect(lets({ format: { type: 'json_object' } }, '{"x": [1, {"y": null}]}')).toBe(true);
    expect(lets({ format: { type: 'json_object' } }, '[1]')).toBe(false);
    const regex = { format: { type: 'regex', pattern: 'yes|no, \\w+' } } as const;
    expect([lets(regex, 'yes'), lets(regex, 'no, why'), lets(regex, 'yes!'), lets(regex, 'oh yes')]).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });
});

describe('calls', () => {
  it('are held to names and arguments behind their opening tag, and leave other text free', () => {
    const given = { tools: [weather, now] };
    for (const text of [
      '',
      'any text < tool',
      CALL,
      `Well.\n\n${CALL}\n${CALL} and so on`,
      '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    ])
      expect(lets(given, text), text).toBe(true);
    for (const text of [
      '<tool_call>\nhm',
      CALL.replace('"weather"', '"wether"'),
      CALL.replace('3', '6'),
      CALL.replace('"city": "Aix", ', ''),
      '<tool_call>\n{"name": "now", "arguments": {"x": 1}}\n</tool_call>',
      CALL.slice(0, -3),
    ])
      expect(lets(given, text), text).toBe(false);
  });

  it('as tags hold their values as they stand', () => {
    const given = { tools: [weather, now], calls: { ...calls, style: 'xml' } } as const;
    expect(lets(given, `Well.\n\n${XML_CALL}`)).toBe(true);
    expect(lets(given, '<tool_call>\n<function=now>\n</function>\n</tool_call>')).toBe(true);
    const coded = XML_CALL.replace('</function>', '<parameter=code>\nab\n</parameter>\n</function>');
    expect(lets(given, coded)).toBe(true);
    expect(lets(given, coded.replace('\nab\n', '\nA\n'))).toBe(false);
    expect(lets(given, XML_CALL.replace('\n3\n', '\n"3"\n'))).toBe(false);
    expect(lets(given, XML_CALL.replace('=city', '=town'))).toBe(false);
  });

  it('that are required come first and at least once, and not more often than is allowed', () => {
    const given = { tools: [weather], toolChoice: 'required', maxCalls: 1 } as const;
    expect(lets(given, CALL)).toBe(true);
    for (const text of ['', 'text', `text ${CALL}`, `${CALL}\n${CALL}`])
      expect(lets(given, text), text).toBe(false);
  });

  it('may take the place of a format', () => {
    const given = { tools: [weather], format: { type: 'json_object' } } as const;
    expect([lets(given, '{}'), lets(given, CALL), lets(given, 'text')]).toEqual([true, true, false]);
  });

  it('whose arguments cannot be enforced are free, or refused where the function is strict', () => {
    const tool = { ...weather, parameters: { type: 'object', properties: { a: { not: {} } } } };
    const free = { ...tool, isStrict: false };
    const call = '<tool_call>\n{"name": "weather", "arguments": {"any": 1}}\n</tool_call>';
    expect(lets({ tools: [free] }, call)).toBe(true);
    expect(() => answerGrammar(rules({ tools: [tool] }))).toThrow(
      'tools[0].function.parameters/properties/a/not is a keyword that generation cannot follow',
    );
  });
});
