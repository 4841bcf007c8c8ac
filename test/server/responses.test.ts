import OpenAI from 'openai';
import { zodTextFormat } from 'openai/helpers/zod';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { type Serving, serveDemo } from './serving.ts';

describe('/v1/responses, asked by the openai client', () => {
  let serving: Serving;
  let client: OpenAI;
  const asked = { model: 'demo', input: 'Tell me a story.', max_output_tokens: 12, temperature: 0 };
  const weather = {
    type: 'function' as const,
    name: 'weather',
    strict: true,
    parameters: {
      type: 'object',
      properties: { city: { type: 'string', maxLength: 8 } },
      required: ['city'],
      additionalProperties: false,
    },
  };

  beforeAll(async () => {
    serving = await serveDemo();
    client = new OpenAI({ baseURL: `${serving.url}/v1`, apiKey: 'none', maxRetries: 0 });
  });
  afterAll(() => serving.stop());

  it('answers as chat completions do, whole and streamed alike', async () => {
    const chat = await client.chat.completions.create({
      model: 'demo',
      messages: [{ role: 'user', content: asked.input }],
      max_tokens: 12,
      temperature: 0,
    });
    const whole = await client.responses.create(asked);
    expect(whole.output_text).toBe(chat.choices[0]?.message.content);
    expect(whole).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      usage: { output_tokens: 12 },
    });
    const stream = client.responses.stream(asked);
    let text = '';
    stream.on('response.output_text.delta', ({ delta }) => {
      text += delta;
    });
    const final = await stream.finalResponse();
    expect([text, final.output_text]).toEqual([whole.output_text, whole.output_text]);
  });

  it('calls functions, skips tools that are not ours, and takes results back', async () => {
    const tools = [weather, { type: 'web_search' as const }];
    const whole = await client.responses.create({
      ...asked,
      max_output_tokens: 200,
      tools,
      tool_choice: 'required',
      parallel_tool_calls: false,
    });
    const [call] = whole.output;
    if (call?.type !== 'function_call') throw new Error('no call');
    expect(whole.status).toBe('completed');
    expect(JSON.parse(call.arguments)).toHaveProperty('city');
    const streamed = await client.responses
      .stream({
        ...asked,
        max_output_tokens: 200,
        tools,
        tool_choice: 'required',
        parallel_tool_calls: false,
      })
      .finalResponse();
    expect(streamed.output[0]).toMatchObject({
      type: 'function_call',
      name: 'weather',
      arguments: call.arguments.replaceAll(/(?<=[:,])(?=")/g, ' '),
    });
    const next = await client.responses.create({
      ...asked,
      instructions: 'Be kind.',
      tools,
      input: [
        { role: 'user', content: [{ type: 'input_text', text: 'How is it in Aix?' }] },
        { type: 'reasoning', id: 'r', summary: [], content: [{ type: 'reasoning_text', text: 'hm' }] },
        { type: 'function_call', call_id: 'a', name: 'weather', arguments: '{"city":"Aix"}' },
        { type: 'function_call_output', call_id: 'a', output: 'Sunny' },
      ],
    });
    expect(next.output[0]?.type).toBe('message');
  });

  it('answers by a schema', async () => {
    const schema = z.object({ mood: z.enum(['good', 'bad']) });
    const { output_parsed: parsed } = await client.responses.parse({
      ...asked,
      max_output_tokens: 60,
      text: { format: zodTextFormat(schema, 'answer') },
    });
    expect(schema.safeParse(parsed).success).toBe(true);
  });

  it('tells how likely the tokens of its text were, whole and streamed alike', async () => {
    const scored = { ...asked, include: ['message.output_text.logprobs' as const], top_logprobs: 2 };
    const [item] = (await client.responses.create(scored)).output;
    const part = item?.type === 'message' ? item.content[0] : undefined;
    if (part?.type !== 'output_text') throw new Error('no text');
    const { logprobs = [], text } = part;
    expect(logprobs.map(({ token }) => token).join('')).toContain(text);
    expect(logprobs.every(({ top_logprobs: top }) => top.length === 2)).toBe(true);
    const inputIds = serving.tokenizer.applyChatTemplate([{ role: 'user', content: asked.input }], {
      addGenerationPrompt: true,
    }).inputIds;
    const { logprobs: own } = await serving.model.generate({
      ...{ inputIds, tokenizer: serving.tokenizer, maxNewTokens: 12, doSample: false, logprobs: 2 },
    });
    const first = own?.[0]?.findIndex(({ text }) => text === logprobs[0]?.token) ?? -1;
    expect(logprobs.map(({ logprob }) => logprob)).toEqual(
      own?.[0]?.slice(first, first + logprobs.length).map(({ logprob }) => logprob),
    );
    const pieces: string[] = [];
    const stream = client.responses.stream(scored);
    stream.on('response.output_text.delta', ({ logprobs }) =>
      pieces.push(...logprobs.map(({ token }) => token)),
    );
    const [streamed] = (await stream.finalResponse()).output;
    expect(streamed).toMatchObject({ content: [{ text, logprobs }] });
    expect(pieces).toEqual(logprobs.map(({ token }) => token));
    await expect(client.responses.create({ ...asked, top_logprobs: 2 })).rejects.toThrow(
      '400 top_logprobs: needs include: ["message.output_text.logprobs"]',
    );
  });

  it('answers an empty input, and keeps nothing', async () => {
    expect((await client.responses.create({ ...asked, input: [] })).object).toBe('response');
    await expect(client.responses.create({ ...asked, previous_response_id: 'resp_1' })).rejects.toThrow(
      '400 previous_response_id: is not taken',
    );
    expect(serving.faults).toEqual([]);
  });

  it('refuses what is nested so deep that it could not be repeated', async () => {
    const body = (levels: number) =>
      `${JSON.stringify(asked).slice(0, -1)}, "text": {"other": ${'['.repeat(levels)}${']'.repeat(levels)}}}`;
    const ask = (levels: number) =>
      fetch(`${serving.url}/v1/responses`, { method: 'POST', body: body(levels) });
    expect((await ask(900)).status).toBe(200);
    const deep = await ask(100_000);
    expect([deep.status, await deep.text()]).toEqual([400, expect.stringContaining('more than 1000 levels')]);
    expect(serving.faults).toEqual([]);
  });
});
