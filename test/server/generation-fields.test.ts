/** Fields of requests that are options of `generate` under other names. */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
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
  afterEach(() => {
    vi.restoreAllMocks();
  });
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
      /no effect without guidanceScale/,
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
