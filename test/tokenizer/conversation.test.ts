import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { loadTokenizer } from '../../src/tokenizer/load-tokenizer.ts';
import { alteredTokenizer } from './folder-repo.ts';

const withTemplate = async (template: string) =>
  loadTokenizer(await alteredTokenizer('qwen2_moe_a', { 'chat_template.jinja': template }));

const ADDING = "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% endfor %}";
const PRINTING = '{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}';
const AS_JSON =
  '{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}{{ m.content | tojson }}{% endif %}{% endfor %}';
const DROPPING =
  '{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% endif %}{% endfor %}';
const READING =
  "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{% if p.type == 'image' %}[image]{% elif p.text is defined %}{{ p.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}";
const READING_USERS = READING.replace('m.content is string', "m.role != 'user' or m.content is string");

const KNOWING =
  "{% for m in messages %}{% if m.role in ['user', 'assistant', 'observer'] %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}";

const text = (...texts: string[]) => texts.map((one) => ({ type: 'text', text: one }));

describe('a role', () => {
  const said = (role: string) => [
    { role: 'user', content: 'Hi' },
    { role, content: 'Yes' },
  ];

  it('that the template passes over is refused by name, rather than a message lost', async () => {
    const tokenizer = await withTemplate(KNOWING);
    expect(() => tokenizer.applyChatTemplate(said('asistant'))).toThrow(
      /messages\[1\]\.role is "asistant", whose messages the chat template leaves out; expected system, user, assistant, tool\. Did you mean "assistant"/,
    );
  });

  it('that the template knows, or prints as it comes, is in order', async () => {
    const [knowing, adding] = [await withTemplate(KNOWING), await withTemplate(ADDING)];
    const render = { tokenize: false } as const;
    expect(knowing.applyChatTemplate(said('observer'), render)).toBe('<user>Hi<observer>Yes');
    expect(adding.applyChatTemplate(said('critic'), render)).toBe('<user>Hi<critic>Yes');
  });

  it('that the template refuses is refused in its words', async () => {
    const tokenizer = await withTemplate(
      `{% if messages[1].role == 'x' %}{{ raise_exception('no x') }}{% endif %}`,
    );
    expect(() => tokenizer.applyChatTemplate(said('x'))).toThrow(/no x/);
  });
});

describe('content in parts', () => {
  it.each([
    ['adds', ADDING],
    ['prints', PRINTING],
    ['writes JSON', AS_JSON],
    ['drops what is no text', DROPPING],
    ['reads parts', READING],
    ['reads parts of users', READING_USERS],
  ])('of text becomes its text, where a template %s', async (_, template) => {
    const tokenizer = await withTemplate(template);
    const messages = [
      { role: 'system', content: text('Be', ' good') },
      { role: 'user', content: text('Hi', ' there') },
      { role: 'assistant', content: [...text('Yes'), { text: '?' }] },
      { role: 'tool', content: text('1', '2') },
      { role: 'user', content: [] },
      { role: 'user', content: 'plain' },
    ];
    expect(tokenizer.applyChatTemplate(messages, { tokenize: false })).toBe(
      '<system>Be good<user>Hi there<assistant>Yes?<tool>12<user><user>plain',
    );
  });

  it('reaches a template that reads it', async () => {
    const tokenizer = await withTemplate(READING);
    const messages = [{ role: 'user', content: [...text('a'), { type: 'image' }, ...text('b')] }];
    expect(tokenizer.applyChatTemplate(messages, { tokenize: false })).toBe('<user>a[image]b');
  });

  it.each([ADDING, PRINTING, AS_JSON, DROPPING])(
    'with a picture is refused by name: %s',
    async (template) => {
      const tokenizer = await withTemplate(template);
      const messages = [
        { role: 'user', content: 'x' },
        { role: 'user', content: [...text('a'), { type: 'image' }] },
      ];
      expect(() => tokenizer.applyChatTemplate(messages)).toThrow(InputError);
      expect(() => tokenizer.applyChatTemplate(messages)).toThrow(
        /messages\[1\]\.content\[1\] is of type "image".*takes text only/,
      );
    },
  );

  it('that is the last message can be left open', async () => {
    for (const template of [ADDING, READING]) {
      const tokenizer = await withTemplate(`${template}<end>`);
      const messages = [{ role: 'assistant', content: text('a', 'b ') }];
      expect(tokenizer.applyChatTemplate(messages, { continueFinalMessage: true, tokenize: false })).toBe(
        '<assistant>ab ',
      );
    }
  });
});

describe('a message is refused by index and field', () => {
  const user = { role: 'user', content: 'x' };
  it.each<[string, unknown, RegExp]>([
    ['a list', [user], /messages\[1\] is \[\{.*; expected an object with role and content\. Pass one/],
    ['no role', { content: 'x' }, /messages\[1\]\.role is undefined; expected/],
    ['a role that is no text', { role: 5, content: 'x' }, /messages\[1\]\.role is 5/],
    ['no content', { role: 'user' }, /messages\[1\]\.content is undefined; expected a text/],
    ['null', { role: 'user', content: null }, /messages\[1\]\.content is null/],
    ['a number', { role: 'user', content: 5 }, /messages\[1\]\.content is 5/],
    ['an object', { role: 'user', content: { type: 'text', text: 'x' } }, /messages\[1\]\.content is \{/],
    ['texts in a list', { role: 'user', content: ['x'] }, /messages\[1\]\.content\[0\] is "x"/],
    ['null in a list', { role: 'user', content: [null] }, /messages\[1\]\.content\[0\] is null/],
    [
      'a part without a type',
      { role: 'user', content: [{ a: 1 }] },
      /content\[0\] is \{"a":1\}.*text, image/,
    ],
    ['an unknown part', { role: 'user', content: [{ type: 'refusal' }] }, /content\[0\]\.type is "refusal"/],
    [
      'a file',
      { role: 'user', content: [{ type: 'file', mediaType: 'image/png', data: 'x' }] },
      /messages\[1\]\.content\[0\]\.type is "file".*Pass a picture as/,
    ],
    [
      'a call as the AI SDK writes it',
      { role: 'assistant', content: [{ type: 'tool-call', toolCallId: 'a', toolName: 'f', input: {} }] },
      /messages\[1\]\.content\[0\]\.type is "tool-call".*tool_calls/,
    ],
    [
      'a result as the AI SDK writes it',
      { role: 'tool', content: [{ type: 'tool-result', toolCallId: 'a', output: {} }] },
      /content\[0\]\.type is "tool-result".*role: "tool"/,
    ],
    [
      'reasoning as a part',
      { role: 'assistant', content: [{ type: 'reasoning', text: 'x' }] },
      /reasoning_content/,
    ],
    ['a picture of responses', { role: 'user', content: [{ type: 'input_image' }] }, /Pass a picture as/],
    [
      'a text part without text',
      { role: 'user', content: [...text('x'), { type: 'text' }] },
      /messages\[1\]\.content\[1\]\.text is undefined; expected a text/,
    ],
    ['a text part of a number', { role: 'user', content: [{ type: 'text', text: 1 }] }, /\.text is 1/],
  ])('%s', async (_, message, reason) => {
    for (const template of [PRINTING, READING]) {
      const tokenizer = await withTemplate(template);
      expect(() => tokenizer.applyChatTemplate([user, message] as never)).toThrow(InputError);
      expect(() => tokenizer.applyChatTemplate([user, message] as never)).toThrow(reason);
    }
  });

  it('and so are messages that are no list, or none', async () => {
    const tokenizer = await withTemplate(PRINTING);
    const apply = (messages: unknown) => () => tokenizer.applyChatTemplate(messages as never);
    expect(apply('x')).toThrow('messages is "x"; expected a list of { role, content }');
    expect(apply([])).toThrow('messages is []; expected at least one message');
  });

  it('and so are variables that are no data, by their place', async () => {
    const tokenizer = await withTemplate(PRINTING);
    const apply = () => tokenizer.applyChatTemplate([{ ...user, at: [new Date(0)] }] as never);
    expect(apply).toThrow(/^messages\[0\]\.at\[0\] is "1970.*"; expected plain data for the chat template/);
  });

  it('but tool calls need no content', async () => {
    const tokenizer = await withTemplate('{{ messages[0].tool_calls[0].name }}{{ messages[0].content }}');
    const call = { role: 'assistant', tool_calls: [{ name: 'f' }] };
    expect(tokenizer.applyChatTemplate([call], { tokenize: false })).toBe('f');
    expect(tokenizer.applyChatTemplate([{ ...call, content: null }], { tokenize: false })).toBe('fNone');
  });

  it.each([[5], ['x'], [['x']], [[null]]])('and tools that are %j', async (tools) => {
    const tokenizer = await withTemplate(PRINTING);
    expect(() => tokenizer.applyChatTemplate([user], { tools: tools as never })).toThrow(/^tools.* is /);
    expect(() => tokenizer.applyChatTemplate([user], { documents: tools as never })).toThrow(
      /^documents.* is /,
    );
  });
});

describe('a message that is left open', () => {
  it('ends where its text ends, though the letters occur again', async () => {
    const tokenizer = await withTemplate(`${PRINTING}<|end|>e`);
    const messages = [{ role: 'assistant', content: 'e' }];
    const options = { continueFinalMessage: true, tokenize: false } as const;
    expect(tokenizer.applyChatTemplate(messages, options)).toBe('<assistant>e');
  });

  it('keeps the spaces that the template keeps', async () => {
    const options = { continueFinalMessage: true, tokenize: false } as const;
    const messages = [{ role: 'assistant', content: ' a ' }];
    const kept = await withTemplate(PRINTING);
    expect(kept.applyChatTemplate(messages, options)).toBe('<assistant> a ');
    const trimmed = await withTemplate(PRINTING.replace('m.content', 'm.content | trim'));
    expect(trimmed.applyChatTemplate(messages, options)).toBe('<assistant>a');
  });

  it('must be printed', async () => {
    const tokenizer = await withTemplate('{{ messages[0].role }}');
    const messages = [{ role: 'assistant', content: 'a' }];
    expect(() => tokenizer.applyChatTemplate(messages, { continueFinalMessage: true })).toThrow(InputError);
  });
});
