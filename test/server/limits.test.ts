import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { InputError } from '../../src/index.ts';
import { createServer, type ServerOptions } from '../../src/server/index.ts';
import { post, type Serving, serveDemo } from './serving.ts';

const servings: Serving[] = [];
const serve = async (options: ServerOptions) => {
  const serving = await serveDemo(options);
  servings.push(serving);
  return serving;
};
afterEach(async () => {
  for (const serving of servings.splice(0)) await serving.stop();
});
const question = { messages: [{ role: 'user', content: 'Hello' }], max_tokens: 4, temperature: 0 };

/** The status of a request with headers that fetch sets by itself. */
const statusOf = (url: string, headers: Record<string, string>) =>
  new Promise<number>((resolve, reject) => {
    request(url, { headers }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    })
      .on('error', reject)
      .end();
  });

describe('a server', () => {
  it('with a key answers only those who have it, but tells anybody that it lives', async () => {
    const { url } = await serve({ apiKey: 'secret' });
    const ask = (headers: Record<string, string>) => post(`${url}/v1/chat/completions`, question, headers);
    expect((await ask({})).status).toBe(401);
    expect((await ask({ authorization: 'Bearer secreT' })).body.error).toMatchObject({
      type: 'authentication_error',
      code: 'invalid_api_key',
    });
    expect((await ask({ authorization: 'Bearer secret' })).status).toBe(200);
    expect((await ask({ 'x-api-key': 'secret' })).status).toBe(200);
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect((await fetch(`${url}/metrics`)).status).toBe(401);
  });

  it('answers only under its own names, and only pages that it knows', async () => {
    const { url } = await serve({
      hosts: ['127.0.0.1', '[::1]'],
      origins: ['https://APP.example:443/', 'App://here'],
    });
    const models = `${url}/v1/models`;
    expect(await statusOf(models, { host: 'evil.example' })).toBe(403);
    expect(await statusOf(models, { origin: 'https://evil.example' })).toBe(403);
    expect(await statusOf(models, { origin: url })).toBe(200);
    expect(await statusOf(models, { origin: 'app://here' })).toBe(200);
    const listed = await fetch(models, { headers: { origin: 'https://app.example' } });
    expect(listed.headers.get('access-control-allow-origin')).toBe('https://app.example');
    const asked = await fetch(models, {
      method: 'OPTIONS',
      headers: {
        origin: 'https://app.example',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization',
      },
    });
    expect([asked.status, asked.headers.get('access-control-allow-headers')]).toEqual([204, 'authorization']);
  });

  it('refuses what is too large, and what nobody serves', async () => {
    const { url } = await serve({ maxBody: 1000 });
    const { status, body } = await post(`${url}/v1/chat/completions`, {
      ...question,
      padding: 'x'.repeat(2000),
    });
    expect([status, body.error]).toEqual([
      413,
      expect.objectContaining({ message: 'The request is larger than 1000 bytes' }),
    ]);
    expect((await post(`${url}/v1/nothing`, {})).body.error).toMatchObject({
      message: 'There is no POST /v1/nothing',
    });
  });

  it('refuses a request while the bodies of others leave no room for it, wherever those are', async () => {
    const { url, server } = await serve({ maxBody: 1000, maxBodies: 1500, maxRunning: 1 });
    const chat = `${url}/v1/chat/completions`;
    const large = (more: object = {}) => ({ ...question, ...more, padding: 'x'.repeat(800) });
    const refusal = { type: 'overloaded_error', message: expect.stringMatching(/no room .* take \d+ B/) };
    const expectRefused = async () => {
      const { status, headers, body } = await post(chat, large());
      expect([status, headers.get('retry-after')]).toEqual([503, '1']);
      expect(body.error).toMatchObject(refusal);
      // What is small finds room beside.
      expect((await post(`${url}/tokenize`, { prompt: 'a' })).status).toBe(200);
    };
    const expectRoom = () => expect.poll(async () => (await post(chat, large())).status).toBe(200);

    // One that comes slowly: what has come of it counts, announced or not.
    for (const head of ['Content-Length: 900', 'Transfer-Encoding: chunked']) {
      const socket = connect(Number(new URL(url).port), '127.0.0.1');
      await once(socket, 'connect');
      socket.write(`POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n${head}\r\n\r\n`);
      await expectRoom();
      socket.write(head.startsWith('T') ? `320\r\n${'x'.repeat(800)}\r\n` : 'x'.repeat(800));
      await expect.poll(async () => (await post(chat, large())).status).toBe(503);
      await expectRefused();
      socket.destroy();
      await expectRoom();
    }

    // One whose answer streams, until it has been read or is left.
    for (const end of ['read', 'left']) {
      const body = JSON.stringify(large({ stream: true, max_tokens: 20 }));
      const { body: stream } = await server.app.request('/v1/chat/completions', { method: 'POST', body });
      await expectRefused();
      if (end === 'read') expect(await new Response(stream).text()).toContain('[DONE]');
      else await stream?.cancel();
      await expectRoom();
    }

    // Whatever is refused leaves nothing behind.
    for (const body of [
      '{'.padEnd(800),
      large({ max_tokens: -1 }),
      large({ model: 'none' }),
      large({ n: 99 }),
    ])
      expect((await post(chat, body)).status).toBeGreaterThanOrEqual(400);
    for (const path of [
      '/tokenize',
      '/detokenize',
      '/v1/messages/count_tokens',
      '/v1/messages',
      '/v1/nothing',
    ])
      expect((await post(url + path, large())).status).toBeGreaterThanOrEqual(200);
    expect((await post(chat, large())).status).toBe(200);
  });

  it('looks at a list up to its first fault, and at none without measure', async () => {
    const { url, tokenizer } = await serve({});
    const ask = async (path: string, body: unknown) => {
      const { status, body: answer } = await post(url + path, body);
      return `${status} ${(answer.error as { message: string }).message}`;
    };
    const user = { role: 'user', content: 'Hi' };
    // Of each entry there would be something to say.
    const faulty = Array(60_000).fill(1);
    const long = Array(70_000).fill(user);
    const chat = '/v1/chat/completions';
    expect(await ask(chat, { messages: faulty })).toMatch(/^400 messages\.0 is 1; expected an object/);
    expect(await ask(chat, { messages: [user, ...faulty] })).toMatch(/^400 messages\.1 is 1/);
    expect(
      await ask(chat, { messages: [{ role: 'user', content: [{ type: 'text', text: 'a' }, ...faulty] }] }),
    ).toMatch(/^400 messages\.0\.content/);
    expect(await ask(chat, { messages: long })).toMatch(
      /^400 messages is .*expected a list of 1 to 65536 entries/,
    );
    expect(await ask(chat, { messages: [user], stop: Array(17).fill('a') })).toMatch(/^400 stop is/);
    expect(await ask(chat, { messages: [user], tools: Array(513).fill({}) })).toMatch(
      /^400 tools is .* 0 to 512 entries/,
    );
    const bias = Object.fromEntries(long.map((_, i) => [i, 'x']));
    expect(await ask(chat, { messages: [user], logit_bias: bias })).toMatch(
      /^400 logit_bias has more than 65536 members/,
    );
    const many = Object.fromEntries(long.map((_, i) => [`k${i}`, 1]));
    expect(await ask(chat, { messages: [user], ...many })).toMatch(/^400 the content has more than 65536/);
    expect(await ask(chat, { messages: [{ ...user, x: [many] }] })).toMatch(
      /^400 messages\.0\.x\.0 has more/,
    );
    expect(await ask(chat, `${'['.repeat(5e6)}`)).toMatch(/^400 The body is nested more than 1000 levels/);
    expect(await ask('/v1/responses', { input: long })).toMatch(/^400 input is/);
    expect(await ask('/v1/messages', { max_tokens: 1, messages: faulty })).toMatch(/^400 messages\.0 is 1/);
    expect(await ask('/v1/completions', { prompt: faulty.map(String) })).toMatch(/^400 prompt/);
    expect(await ask('/tokenize', { messages: faulty })).toMatch(/^400 messages\.0 is 1/);
    expect(await ask('/detokenize', { tokens: [1, ...Array(60_000).fill('a')] })).toMatch(
      /^400 tokens\.1 is "a"/,
    );
    const ids = Array(70_000).fill(7);
    const { body } = await post(`${url}/detokenize`, { tokens: ids });
    expect(body.prompt).toBe(tokenizer.decode(ids));
  });

  it('answers who names no host, and takes no client that goes for a fault of its own', async () => {
    const { url, faults } = await serve({});
    const say = async (text: string, isWhole: boolean) => {
      const socket = connect(Number(new URL(url).port), '127.0.0.1');
      await once(socket, 'connect');
      socket.write(text);
      if (isWhole) return (await socket.toArray()).join('');
      await new Promise((resolve) => socket.write('{', resolve));
      socket.resetAndDestroy();
      return '';
    };
    expect(await say('GET /health HTTP/1.0\r\n\r\n', true)).toMatch(/^HTTP\/1\.1 200 OK.*"status":"ok"/s);
    for (const length of ['Content-Length: 99', 'Transfer-Encoding: chunked'])
      for (let i = 0; i < 20; i++)
        await say(`POST /v1/completions HTTP/1.1\r\nHost: x\r\n${length}\r\n\r\n`, false);
    const gone = async () =>
      (await (await fetch(`${url}/metrics`)).text()).match(/status="499"\} (\d+)/)?.[1];
    await expect.poll(async () => Number(await gone())).toBeGreaterThan(0);
    expect(faults).toEqual([]);
  });

  it('has requests wait in turn, and refuses those beyond', async () => {
    const { url } = await serve({ maxRunning: 1, maxWaiting: 1 });
    const ask = () => post(`${url}/v1/chat/completions`, { ...question, max_tokens: 60 });
    const all = await Promise.all([ask(), ask(), ask(), ask()]);
    const statuses = all.map(({ status }) => status).sort();
    expect(statuses).toEqual([200, 200, 429, 429]);
    const refused = all.find(({ status }) => status === 429);
    expect(refused?.headers.get('retry-after')).toBe('1');
    expect(refused?.body.error).toMatchObject({ type: 'rate_limit_error' });
  });

  it('bounds answers by its own limits', async () => {
    const { url } = await serve({ maxTokens: 3 });
    const { body } = await post(`${url}/v1/chat/completions`, { ...question, max_tokens: 60 });
    expect(body.usage).toMatchObject({ completion_tokens: 3 });
  });

  it('keeps a silent stream open by comments', async () => {
    const { url } = await serve({ pingInterval: 1 });
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({ ...question, stream: true }),
    });
    expect(await response.text()).toContain(': ping\n\n');
  });

  it('takes its place from a stream that is not read, and closes its connection', async () => {
    const { url } = await serve({ maxRunning: 1, sendTimeout: 1 });
    const said = vi.spyOn(console, 'error').mockReturnValue();
    // More than a connection holds unread; the tokens that would end an answer are barred.
    const large = { n: 8, max_tokens: 900, logprobs: true, top_logprobs: 20 };
    const endless = { ...question, ...large, stream: true, logit_bias: { 3071: -100, 3069: -100 } };
    const body = JSON.stringify(endless);
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await once(socket, 'readable');
    expect((await post(`${url}/v1/chat/completions`, question)).status).toBe(200);
    socket.on('error', () => {}).resume();
    if (!socket.closed) await once(socket, 'close');
    expect(String(said.mock.lastCall?.[0])).toContain('its reader took nothing for 1 ms');
    said.mockRestore();
  });

  it('that is drained finishes what it has accepted and takes nothing more', async () => {
    const { url, server } = await serve({});
    // A stream's head says that it was accepted.
    const answer = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({ ...question, max_tokens: 80, stream: true }),
    });
    const drained = server.drain();
    expect((await fetch(`${url}/ready`)).status).toBe(503);
    expect((await fetch(`${url}/health`)).status).toBe(200);
    const late = await post(`${url}/v1/chat/completions`, question);
    expect([late.status, late.headers.get('retry-after')]).toEqual([503, '1']);
    expect(await answer.text()).toMatch(/"finish_reason":"(length|stop)".*\[DONE\]/s);
    await drained;
  });

  it('has figures under the names of vLLM, too, where it is told to', async () => {
    const ask = async (options: ServerOptions) => {
      const { url } = await serve(options);
      await post(`${url}/v1/chat/completions`, question);
      return (await fetch(`${url}/metrics`)).text();
    };
    const text = await ask({ vllmMetrics: true });
    for (const line of [
      'vllm:num_requests_running{model_name="demo"} 0',
      'vllm:num_requests_waiting{model_name="demo"} 0',
      'vllm:generation_tokens_total{model_name="demo"} 4',
      'vllm:request_success_total{model_name="demo",finished_reason="length"} 1',
      'vllm:time_to_first_token_seconds_count{model_name="demo"} 1',
      'vllm:time_per_output_token_seconds_count{model_name="demo"} 1',
      'vllm:e2e_request_latency_seconds_count{model_name="demo"} 1',
      'switchyard_tokens_total{kind="generated"} 4',
    ])
      expect(text).toContain(`${line}\n`);
    expect(text).toMatch(/^vllm:prompt_tokens_total\{model_name="demo"\} [1-9]/m);
    expect(await ask({})).not.toContain('vllm:');
  });

  it('hands out request ids, and figures by path', async () => {
    const { url } = await serve({});
    const { headers } = await post(`${url}/v1/chat/completions`, question, { 'x-request-id': 'mine' });
    expect(headers.get('x-request-id')).toBe('mine');
    const text = await (await fetch(`${url}/metrics`)).text();
    expect(text).toContain('switchyard_requests_total{path="/v1/chat/completions",status="200"} 1');
    expect(text).toContain('switchyard_tokens_total{kind="generated"} 4');
  });

  it('names routes in its figures, and all that is none by one word', async () => {
    const { url } = await serve({ apiKey: 'key' });
    const headers = { authorization: 'Bearer key' };
    const known = ['/', '/health', '/ready', '/page/main.js', '/v1/models', '/metrics'];
    for (const path of known) expect((await fetch(url + path, { headers })).status).toBe(200);
    expect((await fetch(`${url}/v1/models`)).status).toBe(401);
    await fetch(`${url}/v1/models/a`, { headers });
    await fetch(`${url}/v1/models/b`, { headers });
    for (const path of ['/a', '/b', '/v1/chat/completions', '/page/none.js', '/%00', '/health/x'])
      expect((await fetch(url + path, { headers })).status).toBe(404);
    const text = await (await fetch(`${url}/metrics`, { headers })).text();
    const counts = [...text.matchAll(/^switchyard_requests_total\{path="(.*)",status="(\d+)"\} (\d+)$/gm)];
    expect(counts.map(([, ...count]) => count.join(' ')).sort()).toEqual([
      ...['/ 200 1', '/health 200 1', '/metrics 200 1', '/page/main.js 200 1', '/ready 200 1'],
      ...['/v1/models 200 1', '/v1/models 401 1', '/v1/models/:name{.+} 404 2', 'other 404 6'],
    ]);
  });
});

describe('createServer', () => {
  it('refuses what is no model, no setting, or one name for two', async () => {
    const { model } = await serve({});
    expect(() => createServer({ model: {} } as never)).toThrow(InputError);
    expect(() => createServer([])).toThrow('there is no model to serve');
    expect(() => createServer(model, { maxRuning: 2 } as never)).toThrow('Did you mean "maxRunning"?');
    expect(() => createServer(model, { maxRunning: 0 })).toThrow('createServer: maxRunning is 0');
    expect(() => createServer(model, { maxBodies: 1000 })).toThrow(
      'maxBodies is 1000, but one request may have',
    );
    for (const origin of [
      'good.example',
      '*.wild.example',
      'https://*.example',
      'https://a.example/x',
      'a b',
      '',
    ])
      expect(() => createServer(model, { origins: ['*', origin] })).toThrow(
        `createServer: origins.1 is ${JSON.stringify(origin)}; expected an origin such as https://app.example`,
      );
    expect(() => createServer([model, { model }])).toThrow('give one another name');
  });
});
