import Anthropic from '@anthropic-ai/sdk';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { post, type Serving, serveDemo } from './serving.ts';

describe('/v1/messages, asked by the client of Anthropic', () => {
  let serving: Serving;
  let client: Anthropic;
  const question = {
    model: 'demo',
    max_tokens: 12,
    temperature: 0,
    messages: [{ role: 'user' as const, content: 'Tell me a story.' }],
  };
  const weather = {
    name: 'weather',
    input_schema: {
      type: 'object' as const,
      properties: { city: { type: 'string', maxLength: 8 } },
      required: ['city'],
    },
  };

  beforeAll(async () => {
    serving = await serveDemo();
    client = new Anthropic({ baseURL: serving.url, apiKey: 'none', maxRetries: 0 });
  });
  afterAll(() => serving.stop());

  it('answers, whole and streamed alike', async () => {
    const whole = await client.messages.create(question);
    expect(whole).toMatchObject({
      role: 'assistant',
      stop_reason: 'max_tokens',
      stop_sequence: null,
      usage: { output_tokens: 12 },
    });
    const stream = client.messages.stream(question);
    const pieces: string[] = [];
    stream.on('text', (text) => pieces.push(text));
    const final = await stream.finalMessage();
    expect(final.content).toEqual(whole.content);
    expect(pieces.join('')).toBe(whole.content[0]?.type === 'text' && whole.content[0].text);
    expect(pieces.length).toBeGreaterThan(3);
    expect(final.usage).toMatchObject({ output_tokens: 12, input_tokens: whole.usage.input_tokens });
  });

  it('uses tools, and takes their results back', async () => {
    const asked = {
      ...question,
      max_tokens: 200,
      tools: [weather],
      tool_choice: { type: 'any' as const, disable_parallel_tool_use: true },
    };
    const { content, stop_reason: reason } = await client.messages.create(asked);
    const [use] = content;
    if (use?.type !== 'tool_use') throw new Error('no use of a tool');
    expect([reason, use.name, typeof (use.input as { city: unknown }).city]).toEqual([
      'tool_use',
      'weather',
      'string',
    ]);
    const streamed = await client.messages.stream(asked).finalMessage();
    expect(streamed.content).toMatchObject([{ type: 'tool_use', input: use.input }]);
    const next = await client.messages.create({
      ...question,
      tools: [weather],
      messages: [
        ...question.messages,
        { role: 'assistant', content },
        {
          role: 'user',
          content: [
            { type: 'tool_result', tool_use_id: use.id, content: 'Sunny' },
            { type: 'text', text: 'And?' },
          ],
        },
      ],
    });
    expect(next.role).toBe('assistant');
  });

  it('answers by a schema, under its new name or its old one', async () => {
    const schema = { type: 'object', properties: { mood: { enum: ['good', 'bad'] } }, required: ['mood'] };
    const ask = (fields: object) =>
      post(`${serving.url}/v1/messages`, { ...question, max_tokens: 60, ...fields });
    const format = { type: 'json_schema', schema: { ...schema, additionalProperties: false } };
    for (const fields of [{ output_config: { format } }, { output_format: format }]) {
      const [block] = (await ask(fields)).body.content as { text: string }[];
      expect(['good', 'bad']).toContain((JSON.parse(block?.text ?? '') as { mood: string }).mood);
    }
    const refusal = async (fields: object) => {
      const { status, body } = await ask(fields);
      return [status, (body.error as { message: string }).message];
    };
    const grammar = { format: { type: 'grammar' } };
    expect(await refusal({ output_config: grammar })).toEqual([
      400,
      expect.stringContaining('output_config.format'),
    ]);
    const both = { output_config: { format }, output_format: format };
    expect(await refusal(both)).toEqual([400, expect.stringContaining('output_format')]);
    const not = { type: 'json_schema', schema: { not: {} } };
    expect(await refusal({ output_config: { format: not } })).toEqual([400, expect.stringContaining('not')]);
  });

  it('uses a tool that it is to use by name once', async () => {
    const { content, stop_reason: reason } = await client.messages.create({
      ...question,
      max_tokens: 300,
      tools: [weather],
      tool_choice: { type: 'tool', name: 'weather' },
    });
    expect([reason, content.map(({ type }) => type)]).toEqual(['tool_use', ['tool_use']]);
  });

  it('counts the tokens of a request, but for blocks that are not for the model', async () => {
    const count = async (changes: object) =>
      (await client.messages.countTokens({ model: 'demo', messages: question.messages, ...changes }))
        .input_tokens;
    const { usage } = await client.messages.create(question);
    expect(await count({})).toBe(usage.input_tokens);
    const system = { type: 'text', text: 'Be kind.' };
    const billing = { type: 'text', text: 'x-anthropic-billing-header: cc_version=1; cch=abcde' };
    expect(await count({ system: [billing, system] })).toBe(await count({ system: [system] }));
    expect(await count({ system: [system] })).toBeGreaterThan(await count({}));
  });

  it('stops at a sequence and says which', async () => {
    const whole = await client.messages.create(question);
    const text = whole.content[0]?.type === 'text' ? whole.content[0].text : '';
    const stop = text.slice(8, 11);
    const { content, ...rest } = await client.messages.create({
      ...question,
      stop_sequences: ['never', stop],
    });
    expect(rest).toMatchObject({ stop_reason: 'stop_sequence', stop_sequence: stop });
    expect(content).toEqual([{ type: 'text', text: text.slice(0, text.indexOf(stop)) }]);
  });

  it('names what is wrong', async () => {
    await expect(client.messages.create({ ...question, model: 'other' })).rejects.toMatchObject({
      status: 404,
      error: { type: 'error', error: { type: 'not_found_error' } },
    });
    await expect(client.messages.create({ ...question, max_tokens: 0 })).rejects.toThrow('max_tokens is 0');
    const image = { type: 'image' as const, source: { type: 'url' as const, url: 'http://127.0.0.1/x.png' } };
    await expect(
      client.messages.create({ ...question, messages: [{ role: 'user', content: [image] }] }),
    ).rejects.toThrow('fetches none');
    expect(serving.faults).toEqual([]);
  });
});
