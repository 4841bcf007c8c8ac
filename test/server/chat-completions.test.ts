import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { NOT_ROUTED } from '../../src/index.ts';
import { post, type Serving, serveDemo } from './serving.ts';

describe('/v1/chat/completions, asked by the openai client', () => {
  let serving: Serving;
  let client: OpenAI;
  const messages = [{ role: 'user', content: 'Tell me a story.' }] as const;
  const question = { model: 'demo', messages: [...messages], max_tokens: 12, temperature: 0 };

  beforeAll(async () => {
    serving = await serveDemo();
    client = new OpenAI({ baseURL: `${serving.url}/v1`, apiKey: 'none', maxRetries: 0 });
  });
  afterAll(() => serving.stop());

  const weather = {
    type: 'function' as const,
    function: {
      name: 'weather',
      parameters: {
        type: 'object',
        properties: { city: { type: 'string', maxLength: 8 } },
        required: ['city'],
        additionalProperties: false,
      },
      strict: true,
    },
  };

  it('answers as generate does', async () => {
    const { choices, usage, model } = await client.chat.completions.create(question);
    const prompt = serving.tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });
    const output = await serving.model.generate({
      ...prompt,
      tokenizer: serving.tokenizer,
      maxNewTokens: 12,
      doSample: false,
    });
    expect(choices[0]?.message.content).toBe(output.text?.[0]?.trim());
    expect(choices[0]?.finish_reason).toBe('length');
    expect(model).toBe('demo');
    const prompted = prompt.inputIds[0]?.length ?? 0;
    expect(usage).toMatchObject({
      prompt_tokens: prompted,
      completion_tokens: 12,
      total_tokens: prompted + 12,
    });
  });

  it('says how much of a prompt an earlier answer had computed', async () => {
    const text = 'And it came to pass. '.repeat(40);
    const long = { ...question, messages: [{ role: 'user' as const, content: text }] };
    const cached = async () =>
      (await client.chat.completions.create(long)).usage?.prompt_tokens_details?.cached_tokens;
    expect(await cached()).toBe(0);
    // Whole blocks of 64.
    expect(await cached()).toBeGreaterThanOrEqual(64);
  });

  it('streams the same text, piece by piece, with the usage at the end', async () => {
    const whole = await client.chat.completions.create(question);
    const stream = await client.chat.completions.create({
      ...question,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    const chunks = [];
    for await (const chunk of stream) {
      chunks.push(chunk);
      text += chunk.choices[0]?.delta.content ?? '';
    }
    expect(text).toBe(whole.choices[0]?.message.content);
    expect(chunks[0]?.choices[0]?.delta.role).toBe('assistant');
    expect(chunks.length).toBeGreaterThan(6);
    expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe('length');
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 12 } });
  });

  it('gives several answers, each by its own seed, and the same again', async () => {
    const ask = () => client.chat.completions.create({ ...question, temperature: 1.5, n: 3, seed: 5 });
    const [first, again] = await Promise.all([ask(), ask()]);
    const texts = first.choices.map(({ message }) => message.content);
    expect(new Set(texts).size).toBe(3);
    expect(again.choices.map(({ message }) => message.content)).toEqual(texts);
  });

  it('calls tools, whole and streamed', async () => {
    const asked = {
      ...question,
      max_tokens: 200,
      tools: [weather],
      tool_choice: 'required' as const,
      parallel_tool_calls: false,
    };
    const { choices } = await client.chat.completions.create(asked);
    const [call] = choices[0]?.message.tool_calls ?? [];
    if (call?.type !== 'function') throw new Error('no call');
    expect(choices[0]?.finish_reason).toBe('tool_calls');
    expect(choices[0]?.message.content).toBeNull();
    expect(call.id).toMatch(/^call_/);
    const given = JSON.parse(call.function.arguments) as { city: string };
    expect(given.city.length).toBeLessThanOrEqual(8);
    const final = await client.chat.completions.stream(asked).finalChatCompletion();
    const [streamed] = final.choices[0]?.message.tool_calls ?? [];
    expect(streamed?.type === 'function' && JSON.parse(streamed.function.arguments)).toEqual(given);
    expect(final.choices[0]?.finish_reason).toBe('tool_calls');
  });

  it('calls a function that it has to call by name once, and any as often as it likes', async () => {
    const asked = { ...question, max_tokens: 300, tools: [weather] };
    const calls = async (changes: object) =>
      (await client.chat.completions.create({ ...asked, ...changes })).choices[0];
    const named = await calls({ tool_choice: { type: 'function', function: { name: 'weather' } } });
    expect([named?.finish_reason, named?.message.tool_calls?.length]).toEqual(['tool_calls', 1]);
    const parallel = await calls({ tool_choice: 'required' });
    expect(parallel?.message.tool_calls?.length).toBeGreaterThan(1);
  });

  it('takes calls and their results back', async () => {
    const { choices } = await client.chat.completions.create({
      ...question,
      messages: [
        { role: 'developer', content: 'Be kind.' },
        { role: 'user', content: [{ type: 'text', text: 'How is it in Aix?' }] },
        {
          role: 'assistant',
          content: null,
          tool_calls: [
            { id: 'a', type: 'function', function: { name: 'weather', arguments: '{"city":"Aix"}' } },
          ],
        },
        { role: 'tool', tool_call_id: 'a', content: 'Sunny' },
      ],
    });
    expect(choices[0]?.message.role).toBe('assistant');
  });

  it('answers by a schema', async () => {
    const schema = z.object({ mood: z.enum(['good', 'bad']), words: z.array(z.string().max(4)).max(2) });
    const { choices, usage } = await client.chat.completions.parse({
      ...question,
      max_tokens: 120,
      response_format: zodResponseFormat(schema, 'answer'),
    });
    expect(schema.safeParse(choices[0]?.message.parsed).success).toBe(true);
    expect(choices[0]?.finish_reason).toBe('stop');
    // The names are guessed; whether the model would have written them so is its own affair.
    const { accepted_prediction_tokens: right = 0, rejected_prediction_tokens: wrong = 0 } =
      usage?.completion_tokens_details ?? {};
    expect(right + wrong).toBeGreaterThan(0);
  });

  it('tells how likely its tokens were', async () => {
    const { choices } = await client.chat.completions.create({
      ...question,
      logprobs: true,
      top_logprobs: 2,
    });
    const tokens = choices[0]?.logprobs?.content ?? [];
    expect(tokens).toHaveLength(12);
    for (const { logprob, top_logprobs: top } of tokens) {
      expect(top).toHaveLength(2);
      // Greedy: the token is the likeliest.
      expect(top[0]?.logprob).toBe(logprob);
    }
    const bytes = tokens.flatMap((token) => token.bytes ?? []);
    expect(Buffer.from(bytes).toString().trim()).toBe(choices[0]?.message.content);
  });

  it('streams how likely tokens were with the texts that they belong to', async () => {
    const asked = { ...question, logprobs: true, top_logprobs: 1 };
    const { choices } = await client.chat.completions.create(asked);
    const tokens = [];
    let chunks = 0;
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
      const { content } = chunk.choices[0]?.logprobs ?? {};
      if (content && content.length > 0) chunks++;
      tokens.push(...(content ?? []));
    }
    expect(tokens).toEqual(choices[0]?.logprobs?.content);
    expect(chunks).toBeGreaterThan(6);
  });

  it('tells which experts each token went to, whole and streamed', async () => {
    const asked = { ...question, return_routed_experts: true };
    const { choices, usage } = await client.chat.completions.create(asked);
    const [choice] = choices as unknown as { routed_experts: string; routed_experts_shape: number[] }[];
    const tokens = (usage?.total_tokens ?? 0) - 1;
    expect(choice?.routed_experts_shape).toEqual([tokens, 5, 4]);
    const bytes = Buffer.from(choice?.routed_experts ?? '', 'base64');
    const experts = Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readInt32LE(4 * i));
    const output = await serving.model.generate({
      messages: [...messages],
      maxNewTokens: 12,
      doSample: false,
      returnRoutedExperts: true,
    });
    const expected = [...(output.routedExperts?.[0]?.experts ?? [])];
    expect(experts).toEqual(expected.map((expert) => (expert === NOT_ROUTED ? -1 : expert)));
    expect(experts).toHaveLength(tokens * 5 * 4);
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true }))
      chunks.push(chunk);
    expect(chunks.at(-1)?.choices[0]).toMatchObject({
      finish_reason: 'length',
      routed_experts: choice?.routed_experts,
    });
  });

  it('stops at a stop string, which is cut', async () => {
    const whole = (await client.chat.completions.create(question)).choices[0]?.message.content ?? '';
    const stop = whole.slice(8, 11);
    const { choices } = await client.chat.completions.create({ ...question, stop: [stop] });
    expect(choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: whole.slice(0, whole.indexOf(stop)) },
    });
  });

  it('names what is wrong with a request', async () => {
    const ask = (changes: object) =>
      client.chat.completions.create({ ...question, ...changes } as typeof question);
    await expect(ask({ model: 'other' })).rejects.toThrow(
      '404 The model "other" is not served; served are demo',
    );
    await expect(ask({ temperature: -1 })).rejects.toThrow(/400 temperature is -1/);
    await expect(ask({ messages: [] })).rejects.toThrow(/400 messages is \[\]/);
    await expect(ask({ n: 99 })).rejects.toThrow('400 n: is 99; at most 8');
    await expect(ask({ experts: 'none' })).rejects.toThrow(/400 .*"none"/);
    await expect(ask({ messages: [{ role: 'user', content: 'long '.repeat(3000) }] })).rejects.toMatchObject({
      status: 400,
      code: 'context_length_exceeded',
    });
    await expect(
      ask({ response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { not: {} } } } }),
    ).rejects.toThrow('#/not is a keyword that generation cannot follow');
    await expect(ask({ stream: true, temperature: 'hot' })).rejects.toThrow('400 temperature is "hot"');
    const picture = { type: 'image_url', image_url: { url: 'http://169.254.169.254/x.png' } };
    await expect(ask({ messages: [{ role: 'user', content: [picture] }] })).rejects.toThrow(
      'this server fetches none',
    );
    await expect(ask({ chat_template_kwargs: { images: ['/etc/passwd'] } })).rejects.toThrow(
      'is no variable of a template',
    );
    const { status, body } = await post(`${serving.url}/v1/chat/completions`, '{');
    expect([status, body.error]).toEqual([
      400,
      expect.objectContaining({ type: 'invalid_request_error', param: null, code: null }),
    ]);
    expect(serving.faults).toEqual([]);
  });

  it('lets fields pass that it does not know', async () => {
    const asked = { ...question, user: 'me', store: true, some_field_of_another_server: { a: 1 } };
    expect((await client.chat.completions.create(asked)).choices).toHaveLength(1);
  });

  it('ends the generation when the client leaves', async () => {
    const stream = await client.chat.completions.create({ ...question, max_tokens: 900, stream: true });
    for await (const _ of stream) break;
    await expect
      .poll(async () => (await fetch(`${serving.url}/metrics`)).text())
      .toContain('switchyard_requests_running 0');
  });

  it('lists its models, and says why it gives no embeddings', async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual(['demo']);
    expect(await client.models.retrieve('demo')).toMatchObject({
      id: 'demo',
      vision: false,
      experts: { implementation: 'grouped_mm', available: ['batched_mm', 'eager', 'grouped_mm'] },
    });
    await expect(client.embeddings.create({ model: 'demo', input: 'x' })).rejects.toThrow(
      'give no embeddings',
    );
  });
});
