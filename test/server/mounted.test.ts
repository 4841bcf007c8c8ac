import { basename } from 'node:path';
import { runInNewContext } from 'node:vm';
import { Hono } from 'hono';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AutoModelForCausalLM, type CausalLM } from '../../src/index.ts';
import { createServer } from '../../src/server/index.ts';
import { DEMO_FOLDER } from '../helpers/goldens.ts';

describe('a server mounted in an application of hono', () => {
  let model: CausalLM;
  beforeAll(async () => {
    model = await AutoModelForCausalLM.fromPretrained(DEMO_FOLDER);
  });
  afterAll(() => model.dispose());

  it('calls a folder by its name, whatever lies above it', async () => {
    const answer = await createServer(model).app.request('/v1/models');
    const { data } = (await answer.json()) as { data: { id: string }[] };
    expect(data.map(({ id }) => id)).toEqual([basename(DEMO_FOLDER)]);
  });

  const ways = {
    mount: (app: Hono, server: ReturnType<typeof createServer>) => app.mount('/llm', server.app.fetch),
    route: (app: Hono, server: ReturnType<typeof createServer>) => app.route('/llm', server.app),
  };

  it.each(Object.entries(ways))('by %s answers beside the routes of the application', async (_, put) => {
    const app = new Hono();
    app.get('/mine', (c) => c.text('mine'));
    put(app, createServer({ model, name: 'demo' }, { apiKey: 'key' }));
    const authorization = { authorization: 'Bearer key' };
    const ask = (path: string, body: object, headers: Record<string, string> = authorization) =>
      app.request(path, { method: 'POST', body: JSON.stringify(body), headers });
    expect(await (await app.request('/mine')).text()).toBe('mine');
    expect((await app.request('/llm/health')).status).toBe(200);
    expect((await app.request('/llm/ready')).status).toBe(200);
    expect((await app.request('/llm/v1/models')).status).toBe(401);

    const question = { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 4, temperature: 0 };
    const whole = await (await ask('/llm/v1/chat/completions', question)).json();
    const said = (whole as { choices: { message: { content: string } }[] }).choices[0]?.message.content;
    const streamed = await (await ask('/llm/v1/chat/completions', { ...question, stream: true })).text();
    const pieces = [...streamed.matchAll(/"content":"((?:[^"\\]|\\.)*)"/g)].map(([, piece]) =>
      JSON.parse(`"${piece}"`),
    );
    expect(pieces.join('')).toBe(said);
    expect(streamed).toMatch(/data: \[DONE\]\n\n$/);

    // Each API's errors are its own there, too.
    expect(await (await ask('/llm/v1/messages', {})).json()).toMatchObject({ type: 'error' });
    expect(await (await ask('/llm/v1/chat/completions', {})).json()).toMatchObject({
      error: { type: 'invalid_request_error' },
    });
    const refused = await ask('/llm/v1/messages', question, {});
    expect([refused.status, await refused.json()]).toEqual([401, expect.objectContaining({ type: 'error' })]);
  });

  it.each(Object.entries(ways))('by %s has its page where its links lead to its files', async (name, put) => {
    const app = new Hono();
    put(app, createServer({ model, name: 'demo' }));
    const page = await app.request('/llm/');
    const text = await page.text();
    const links = [...text.matchAll(/(?:src|href)="(page\/[^"]+)"/g)].map(([, path]) => path as string);
    expect(links).toHaveLength(2);
    for (const link of links) expect((await app.request(`/llm/${link}`)).status).toBe(200);

    // Without the slash they would lead elsewhere: the server says so where it can see it, the page where only the browser can.
    const bare = await app.request('/llm?a');
    if (name === 'route') expect([bare.status, bare.headers.get('location')]).toEqual([308, 'llm/?a']);
    else expect(await bare.text()).toBe(text);
    const script = /<script>(.*?)<\/script>/s.exec(text)?.[1] as string;
    const told: string[] = [];
    for (const pathname of ['/llm', '/llm/'])
      runInNewContext(script, {
        location: { pathname, search: '?a', replace: (place: string) => told.push(place) },
        document: { write: (html: string) => told.push(html) },
      });
    // Nothing is asked for under a place that is not right.
    expect(told).toEqual([
      '/llm/?a',
      '<link rel="stylesheet" href="page/page.css"><script type="module" src="page/main.js"></script>',
    ]);
    expect(text.replace(script, '')).not.toMatch(/(?:src|href)="(?!#|data:)/);
  });
});
