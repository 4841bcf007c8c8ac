/** Fields of requests that are options of `generate` under other names. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Tokenizer } from '../../src/index.ts';
import { post, type Serving, serveDemo } from './serving.ts';

/** The demo's tokenizer, as if two of its tokens were the tags of reasoning. */
function asOfReasoner(tokenizer: Tokenizer): Tokenizer {
  const tags = new Map([
    ['<think>', 300],
    ['</think>', 301],
  ]);
  const tokenToId = (token: string) => tags.get(token) ?? tokenizer.tokenToId(token);
  return new Proxy(tokenizer, {
    get: (target, name) => {
      const value = name === 'tokenToId' ? tokenToId : Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

describe('a request may say', () => {
  let serving: Serving;
  beforeAll(async () => {
    serving = await serveDemo();
  });
  afterAll(() => serving.stop());
  const messages = [{ role: 'user', content: 'Tell me a story.' }];

  const BUDGETS: [string, object][] = [
    ['/v1/chat/completions', { messages, max_tokens: 3, thinking_budget: 7 }],
    ['/v1/completions', { prompt: 'Once', max_tokens: 3, thinking_budget: 7 }],
    ['/v1/responses', { input: 'Hello', max_output_tokens: 3, thinking_budget: 7 }],
    [
      '/v1/messages',
      {
        messages,
        max_tokens: 3,
        thinking: { type: 'enabled', budget_tokens: 7 },
      },
    ],
  ];
  it.each(BUDGETS)('how long the model may reason: %s', async (path, body) => {
    const generate = vi.spyOn(serving.model, 'generate');
    vi.spyOn(serving.model, 'tokenizer').mockResolvedValue(asOfReasoner(serving.tokenizer));
    expect((await post(serving.url + path, { model: 'demo', ...body })).status).toBe(200);
    expect(generate.mock.calls.map(([options]) => options.thinkingBudget)).toEqual([7]);
  });

  it.each(BUDGETS)('so of a model that does not reason, which keeps any budget: %s', async (path, body) => {
    const generate = vi.spyOn(serving.model, 'generate');
    expect((await post(serving.url + path, { model: 'demo', ...body })).status).toBe(200);
    expect(generate.mock.calls.map(([options]) => options.thinkingBudget)).toEqual([undefined]);
  });

  it.each(['/v1/chat/completions', '/v1/completions'])(
    'what its answer is to lead away from: %s',
    async (path) => {
      const isChat = path.includes('chat');
      const body = {
        model: 'demo',
        max_tokens: 12,
        temperature: 0,
        ...(isChat ? { messages } : { prompt: 'Once upon' }),
      };
      const guidance = {
        guidance_scale: 3,
        negative_prompt: 'Tell me nothing.',
      };
      const { body: answer } = await post(serving.url + path, {
        ...body,
        ...guidance,
      });
      const [choice] = answer.choices as {
        message?: { content: string };
        text?: string;
      }[];
      const { text } = await serving.model.generate({
        ...(isChat ? { messages } : { prompt: 'Once upon' }),
        ...{
          maxNewTokens: 12,
          doSample: false,
          guidanceScale: 3,
          negativePrompt: 'Tell me nothing.',
        },
      });
      expect(choice?.message?.content ?? choice?.text).toBe(text?.[0]);
      const plain = (await post(serving.url + path, body)).body.choices as (typeof answer.choices)[];
      expect(plain).not.toEqual(answer.choices);
    },
  );

  const ASKED: [string, object][] = [
    ['/v1/chat/completions', { messages, max_tokens: 2 }],
    ['/v1/completions', { prompt: 'Once', max_tokens: 2 }],
    ['/v1/responses', { input: 'Hello', max_output_tokens: 2 }],
    ['/v1/messages', { messages, max_tokens: 2 }],
  ];
  it.each(ASKED)('how tokens are chosen: %s', async (path, body) => {
    const generate = vi.spyOn(serving.model, 'generate');
    const fields = {
      ...{ seed: 5, top_k: 7, min_p: 0.1, top_p: 0.9, temperature: 0.5, logit_bias: { 40: 2 } },
      ...{ presence_penalty: 0.5, frequency_penalty: 0.25, repetition_penalty: 1.5 },
      ...{ guidance_scale: 2, negative_prompt: 'No.', experts: 'eager' },
    };
    const { status } = await post(serving.url + path, { model: 'demo', ...body, ...fields });
    expect([status, generate.mock.calls[0]?.[0]]).toEqual([
      200,
      expect.objectContaining({
        ...{ seed: 5, topK: 7, minP: 0.1, topP: 0.9, temperature: 0.5, logitBias: { 40: 2 } },
        ...{ presencePenalty: 0.5, frequencyPenalty: 0.25, repetitionPenalty: 1.5 },
        ...{ guidanceScale: 2, negativePrompt: 'No.', expertsImplementation: 'eager' },
      }),
    ]);
    for (const name of Object.keys(fields)) {
      const { status, body: answer } = await post(serving.url + path, { model: 'demo', ...body, [name]: [] });
      expect([status, (answer.error as { message: string }).message]).toEqual([
        400,
        expect.stringContaining(name),
      ]);
    }
  });

  it.each(ASKED)('what ends its text: %s', async (path, body) => {
    const ask = async (fields: object) => {
      const { body: answer } = await post(serving.url + path, {
        ...{ model: 'demo', temperature: 0, ...body, ...fields },
        [path.endsWith('responses') ? 'max_output_tokens' : 'max_tokens']: 12,
      });
      const [choice] = (answer.choices ?? answer.content ?? answer.output) as [Record<string, unknown>];
      const content = (choice.message as { content: string } | undefined)?.content ?? choice.text;
      return (content ?? (choice.content as [{ text: string }])[0].text) as string;
    };
    const whole = await ask({});
    expect(await ask({ stop: whole[4] })).toBe(whole.slice(0, whole.indexOf(whole[4] as string)));
  });

  it.each([
    ['/v1/responses', { input: [...messages, { role: 'assistant', content: 'Once' }] }],
    ['/v1/messages', { messages: [...messages, { role: 'assistant', content: 'Once' }], max_tokens: 2 }],
  ])('what its template is told, and that it goes on: %s', async (path, body) => {
    const generate = vi.spyOn(serving.model, 'generate');
    const template = { chat_template_kwargs: { mood: 'good' }, continue_final_message: true };
    const asked = { model: 'demo', max_output_tokens: 2, ...body, ...template };
    expect((await post(serving.url + path, asked)).status).toBe(200);
    expect(generate.mock.calls[0]?.[0]).toMatchObject({
      continueFinalMessage: true,
      templateArguments: { mood: 'good' },
    });
  });

  const FORMAT = { type: 'json_object' };
  it.each([
    ['/v1/responses', 'return_routed_experts', true, '/v1/chat/completions takes it'],
    ['/v1/responses', 'logprobs', true, 'give include: ["message.output_text.logprobs"]'],
    ['/v1/responses', 'response_format', FORMAT, 'give text.format'],
    ['/v1/responses', 'guided_json', {}, 'give text.format'],
    ['/v1/responses', 'n', 2, 'a response is one answer. /v1/chat/completions gives several'],
    ['/v1/responses', 'max_tokens', 5, 'give max_output_tokens'],
    ['/v1/responses', 'reasoning_effort', 'low', 'give reasoning.effort'],
    [
      '/v1/responses',
      'prompt',
      { id: 'x' },
      'this server keeps no prompts. Send the text as instructions and input',
    ],
    ['/v1/messages', 'return_routed_experts', true, '/v1/chat/completions takes it'],
    ['/v1/messages', 'logprobs', true, '/v1/chat/completions takes it'],
    ['/v1/messages', 'response_format', FORMAT, 'give output_config.format'],
    ['/v1/messages', 'n', 3, 'a message is one answer. /v1/chat/completions gives several'],
    ['/v1/chat/completions', 'functions', [{ name: 'f' }], 'give tools'],
    ['/v1/chat/completions', 'guided_regex', 'a+', 'give response_format'],
    ['/v1/chat/completions', 'max_output_tokens', 5, 'give max_completion_tokens'],
    ['/v1/completions', 'response_format', FORMAT, '/v1/chat/completions takes it'],
    ['/v1/completions', 'max_completion_tokens', 5, 'give max_tokens'],
  ] as const)('nothing in the words of another API: %s, %s', async (path, name, value, instead) => {
    const body = ASKED.find(([one]) => one === path)?.[1];
    const { status, body: answer } = await post(serving.url + path, {
      model: 'demo',
      ...body,
      [name]: value,
    });
    expect([status, (answer.error as { message: string }).message]).toEqual([
      400,
      `${name}: is not taken here; ${instead}`,
    ]);
  });

  it.each(ASKED)('what clients send that asks for nothing more: %s', async (path, body) => {
    const fields = {
      ...{ n: 1, response_format: { type: 'text' }, logprobs: null, tools: [], functions: null, user: 'me' },
      ...{
        include: ['reasoning.encrypted_content'],
        store: true,
        metadata: { a: 'b' },
        service_tier: 'auto',
      },
    };
    const { status, body: answer } = await post(serving.url + path, { model: 'demo', ...body, ...fields });
    expect([status, answer.error ?? undefined]).toEqual([200, undefined]);
  });

  it.each(ASKED)('no more stops than are looked for: %s', async (path, body) => {
    const ask = async (stop: unknown) => {
      const { status, body: answer } = await post(serving.url + path, { model: 'demo', ...body, stop });
      return [status, (answer.error as { message: string } | undefined)?.message];
    };
    expect((await ask(Array.from({ length: 16 }, (_, i) => `~${i}`)))[0]).toBe(200);
    expect(await ask(Array.from({ length: 17 }, () => 'a'))).toEqual([
      400,
      expect.stringMatching(/^stop is \["a",.*; expected a list of 0 to 16 entries$/),
    ]);
    expect(await ask(['a', 5])).toEqual([400, 'stop.1 is 5; expected a text']);
    expect(await ask({})).toEqual([400, 'stop is {}; expected a text or a list']);
  });

  it('which of several forms is meant, and what is wrong with that one', async () => {
    const message = async (path: string, body: object) => {
      const { status, body: answer } = await post(serving.url + path, { model: 'demo', ...body });
      expect(status).toBe(400);
      const { message, param } = answer.error as { message: string; param?: string | null };
      return [message, param];
    };
    const chat = '/v1/chat/completions';
    expect(await message(chat, { messages: [{ role: 'user', content: [{ text: 'x' }] }] })).toEqual([
      expect.stringMatching(/^messages\.0\.content\.0\.type is undefined; expected a text/),
      'messages.0.content.0.type',
    ]);
    expect(await message(chat, { messages: [{ role: 'user', content: 7 }] })).toEqual([
      'messages.0.content is 7; expected a text or a list',
      'messages.0.content',
    ]);
    expect(await message(chat, { messages, tool_choice: { type: 'function', function: {} } })).toEqual([
      expect.stringMatching(/^tool_choice\.function\.name is undefined; expected a text/),
      'tool_choice.function.name',
    ]);
    expect(await message(chat, { messages, tool_choice: 'sometimes' })).toEqual([
      expect.stringMatching(
        /^tool_choice is "sometimes"; expected one of "auto"\|"none"\|"required" or an object$/,
      ),
      'tool_choice',
    ]);
    expect(await message(chat, { messages, response_format: { type: 'xml' } })).toEqual([
      'response_format.type is "xml"; expected text or json_object or json_schema',
      'response_format.type',
    ]);
    expect(
      await message('/v1/completions', {
        prompt: [
          [1, 2],
          [3, 'x'],
        ],
      }),
    ).toEqual(['prompt.1.1 is "x"; expected a number', 'prompt.1.1']);
    expect(await message('/v1/completions', { prompt: 7 })).toEqual([
      'prompt is 7; expected a text or a list',
      'prompt',
    ]);
    expect(await message('/v1/responses', { input: { a: 1 } })).toEqual([
      'input is {"a":1}; expected a text or a list',
      'input',
    ]);
  });

  it.each([
    [
      { min_tokens: 1024 },
      'min_tokens',
      /^min_tokens is 1024, but .*Lower min_tokens, or shorten the prompt$/,
    ],
    [
      { negative_prompt: 'No.' },
      'negative_prompt',
      /^negative_prompt has no effect without guidance_scale\./,
    ],
    [
      { guidance_scale: 2, negative_prompt: 'No. '.repeat(2000) },
      'negative_prompt',
      /^negative_prompt has \d+ tokens, more than the context of \d+/,
    ],
    [{ logit_bias: { 99999: 1 } }, 'logit_bias', /^logit_bias has the id 99999/],
    [{ experts: 'topK' }, 'experts', /implementation "topK" in experts\./],
    [{ tool_choice: 'required' }, 'tool_choice', /^tool_choice is "required", but there are no tools/],
    [{ messages: [{ role: 'user', content: 'on '.repeat(3000) }] }, null, /^The prompt has \d+ tokens, more/],
  ])('%j that cannot be, by their own names', async (fields, param, message) => {
    const { status, body } = await post(`${serving.url}/v1/chat/completions`, { messages, ...fields });
    expect([status, body.error]).toMatchObject([400, { param, message: expect.stringMatching(message) }]);
  });

  it('neither of them in a way that cannot be', async () => {
    const refused = async (path: string, body: object, message: RegExp) => {
      const { status, body: answer } = await post(serving.url + path, {
        model: 'demo',
        ...body,
      });
      expect(status).toBe(400);
      expect((answer.error as { message: string }).message).toMatch(message);
    };
    await refused('/v1/chat/completions', { messages, thinking_budget: -1 }, /thinking_budget/);
    await refused(
      '/v1/chat/completions',
      { messages, negative_prompt: 'x' },
      /no effect without guidance_scale/,
    );
    await refused(
      '/v1/messages',
      {
        messages,
        max_tokens: 1,
        thinking: { type: 'enabled', budget_tokens: 'x' },
      },
      /budget_tokens/,
    );
  });
});
