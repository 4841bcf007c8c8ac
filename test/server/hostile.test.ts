/** Clients that break off, talk nonsense, or mean harm: each is answered or left, and none is the server's fault. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { InputError, TokenizerError } from '../../src/index.ts';
import { apiErrorOf } from '../../src/server/api-error.ts';
import { post, type Serving, serveDemo } from './serving.ts';

const CHAT = '/v1/chat/completions';
const messages = [{ role: 'user', content: 'Hi' }];

describe('a server', () => {
  let serving: Serving;
  beforeAll(async () => {
    serving = await serveDemo({ maxRunning: 4, maxWaiting: 1000 });
  });
  afterAll(() => serving.stop());

  /** Whatever came before: it answers, nobody holds a place, and nothing was its fault. */
  afterEach(async () => {
    const figures = async () => (await fetch(`${serving.url}/metrics`)).text();
    await expect.poll(figures).toMatch(/requests_running 0\n[\s\S]*requests_waiting 0\n/);
    expect((await post(serving.url + CHAT, { messages, max_tokens: 1 })).status).toBe(200);
    expect(serving.faults).toEqual([]);
  });

  async function open(): Promise<Socket> {
    const socket = connect(Number(new URL(serving.url).port), '127.0.0.1');
    await once(socket, 'connect');
    return socket.on('error', () => {});
  }

  /** All that is answered until the server closes the connection. */
  async function say(request: string | Buffer): Promise<string> {
    const socket = await open();
    socket.write(request);
    return Buffer.concat(await socket.toArray()).toString('latin1');
  }

  const requestOf = (body: string, headers = '') =>
    `POST ${CHAT} HTTP/1.1\r\nHost: x\r\n${headers}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

  it('loses nothing over a request that is cut at any byte, by an end or a reset', async () => {
    const request = requestOf(JSON.stringify({ messages, max_tokens: 2, stream: true }));
    await Promise.all(
      Array.from({ length: request.length }, async (_, cut) => {
        const socket = await open();
        await new Promise((resolve) => socket.write(request.slice(0, cut), resolve));
        if (cut % 2 === 0) socket.resetAndDestroy();
        else {
          socket.end().resume();
          await once(socket, 'close');
        }
      }),
    );
  });

  it('takes a request in pieces of a byte, and several at once in their order', async () => {
    const socket = await open();
    const [one, two] = [2, 3].map((tokens) =>
      requestOf(JSON.stringify({ messages, max_tokens: tokens, temperature: 0 })),
    ) as [string, string];
    for (const byte of one) await new Promise((resolve) => socket.write(byte, resolve));
    socket.write(`${two}GET /health HTTP/1.1\r\nHost: x\r\n\r\n`);
    socket.write(two.replace('Host: x', 'Host: x\r\nConnection: close'));
    const said = Buffer.concat(await socket.toArray()).toString();
    const counts = [...said.matchAll(/"completion_tokens":(\d)|"status":"(ok)"/g)];
    expect(counts.map(([, tokens, ok]) => tokens ?? ok)).toEqual(['2', '3', 'ok', '3']);
  });

  it('lets go of what is left at any moment of an answer', async () => {
    const ask = (stream: boolean) => JSON.stringify({ messages, max_tokens: 200, temperature: 0, stream });
    await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const abort = new AbortController();
        const response = fetch(serving.url + CHAT, {
          method: 'POST',
          body: ask(i % 2 === 0),
          signal: abort.signal,
        });
        await new Promise((resolve) => setTimeout(resolve, i * 3));
        abort.abort();
        await response.then((one) => one.text()).catch(() => {});
      }),
    );
  });

  it.each([
    ['no host', 'GET /health HTTP/1.1\r\n', 400],
    ['a host that is none', 'GET /health HTTP/1.1\r\nHost: a b\r\n', 400],
    ['a host with a path', 'GET /health HTTP/1.1\r\nHost: a/b?c#d\r\n', 400],
    ['a port that is none', 'GET /health HTTP/1.1\r\nHost: x:99999\r\n', 400],
    ['another scheme', 'GET ftp://x/health HTTP/1.1\r\nHost: x\r\n', 400],
    ['all of the server', 'OPTIONS * HTTP/1.1\r\nHost: x\r\n', 400],
    ['two slashes', 'GET //x/health HTTP/1.1\r\nHost: x\r\n', 404],
    ['a percent sign', 'GET /% HTTP/1.1\r\nHost: x\r\n', 404],
    ['bytes that are no text', 'GET /v1/models/%ff HTTP/1.1\r\nHost: x\r\n', 404],
    ['a line end', 'GET /v1/models/%0d%0aX:%20y HTTP/1.1\r\nHost: x\r\n', 404],
    ['a long path', `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n`, 431],
    ['a method that echoes', 'TRACE /health HTTP/1.1\r\nHost: x\r\n', 404],
    ['another protocol', 'PRI * HTTP/2.0\r\n', 400],
    ['two lengths', 'POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n', 400],
    [
      'a length and pieces',
      'POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n',
      400,
    ],
    ['a length below nothing', 'POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n', 400],
    [
      'a length beyond measure',
      'POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n',
      413,
    ],
    ['no body', `POST ${CHAT} HTTP/1.1\r\nHost: x\r\n`, 400],
    [
      'an expectation that is none',
      'POST /tokenize HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 0\r\n',
      417,
    ],
  ])('answers %s', async (_, head, status) => {
    expect(await say(`${head}Connection: close\r\n\r\n`)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  });

  it('says that it goes on where it is asked to first', async () => {
    const body = JSON.stringify({ messages, max_tokens: 1 });
    const said = await say(requestOf(body, 'Expect: 100-continue\r\nConnection: close\r\n'));
    expect(said).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
  });

  it('hands back ids of requests that are words, and makes others itself', async () => {
    const idOf = async (id: string) => {
      const said = await say(
        Buffer.from(
          `GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: ${id}\r\nConnection: close\r\n\r\n`,
          'latin1',
        ),
      );
      return /^x-request-id: (.*)\r$/m.exec(said)?.[1];
    };
    expect(await idOf('a-1:b/c=')).toBe('a-1:b/c=');
    for (const id of ['', '\xff\xe9', 'a'.repeat(129), 'a b'])
      expect(await idOf(id)).toMatch(/^[0-9a-f]{8}-[0-9a-f-]{27}$/);
  });

  it.each([
    ['names of what objects have', { __proto__: null, constructor: { prototype: {} }, toString: 1 }],
    ['half a character', { messages: [{ role: 'user', content: 'a\ud800b\udc00' }], stop: ['\ud83d'] }],
    ['no character', { messages: [{ role: 'user', content: '\0\ufffe' }] }],
    ['a temperature of nearly nothing', { temperature: 1e-320, top_k: 0 }],
    ['a sum of nearly nothing', { temperature: 1, top_p: 1e-320, top_k: 0 }],
    ['penalties beyond measure', { repetition_penalty: 1e308 }],
    ['a guidance of nearly nothing', { guidance_scale: 1e-320 }],
    [
      'the largest numbers',
      { seed: Number.MAX_SAFE_INTEGER, n: 3, top_k: Number.MAX_SAFE_INTEGER, temperature: 1 },
    ],
    ['the smallest number', { seed: Number.MIN_SAFE_INTEGER, temperature: 1 }],
  ])('answers with %s', async (_, fields) => {
    const { status, body } = await post(serving.url + CHAT, { messages, max_tokens: 2, ...fields });
    expect([status, body.error]).toEqual([200, undefined]);
  });

  it('takes names of members for nothing more', async () => {
    const named = `{"messages":${JSON.stringify(messages)},"temperature":0,"max_tokens":1,"__proto__":{"n":50},"max_tokens":2}`;
    const { status, body } = await post(serving.url + CHAT, named);
    expect([status, (body.usage as { completion_tokens: number }).completion_tokens]).toEqual([200, 2]);
    expect((body.choices as unknown[]).length).toBe(1);
    const parameters = JSON.parse(
      '{"type":"object","properties":{"__proto__":{"type":"string","maxLength":3},"constructor":{"type":"integer","minimum":1,"maximum":9}},"required":["__proto__","constructor"],"additionalProperties":false}',
    );
    const called = await post(serving.url + CHAT, {
      ...{ messages, max_tokens: 200, temperature: 0, tool_choice: 'required', parallel_tool_calls: false },
      tools: [{ type: 'function', function: { name: '__proto__', parameters, strict: true } }],
    });
    const [choice] = called.body.choices as [
      { message: { tool_calls: [{ function: { name: string; arguments: string } }] } },
    ];
    const [{ function: call }] = choice.message.tool_calls;
    expect([call.name, Object.keys(JSON.parse(call.arguments))]).toEqual([
      '__proto__',
      ['__proto__', 'constructor'],
    ]);
  });

  it.each([
    ['/v1/responses', { input: [{ role: 'user', content: { a: 1 } }] }, 'input.0.content'],
    [
      '/v1/responses',
      {
        input: [
          { role: 'user', content: 'a' },
          { role: 'user', content: [5] },
        ],
      },
      'input.1.content.0',
    ],
    ['/v1/responses', { input: [{ role: 'constructor', content: 'a' }] }, 'input.0.role'],
    ['/v1/responses', { input: [{ role: 'user', content: [{ type: 'x' }] }] }, 'input.0.content.0.type'],
    ['/v1/responses', { input: [{ type: 'function_call_output', output: [null] }] }, 'input.0.output.0'],
    [CHAT, { messages: [{ role: 'user', content: [{ type: '__proto__' }] }] }, 'messages.0.content.0.type'],
    [
      CHAT,
      { messages: [{ role: 'user', content: [{ type: 'text', text: {} }] }] },
      'messages.0.content.0.text',
    ],
    [CHAT, { messages, logit_bias: { '-1': 5 } }, 'logit_bias.-1'],
    ['/v1/messages', { max_tokens: 1, messages: [{ role: 'user', content: [{ type: 'text' }] }] }, undefined],
    ['/detokenize', { tokens: [5, 99_999_999] }, 'tokens.1'],
  ])('%s names what is wrong in %j', async (path, body, param) => {
    const { status, body: answer } = await post(serving.url + path, body);
    const error = answer.error as { message: string; param?: string };
    expect([status, error.param]).toEqual([400, param]);
    expect(error.message).toContain(param ?? 'messages.0.content.0.text');
  });

  it('does not tell where its files lie', async () => {
    const { status, body } = await post(`${serving.url}/detokenize`, { tokens: [99_999_999] });
    expect([status, JSON.stringify(body)]).toEqual([400, expect.not.stringContaining('demo-model')]);
    for (const [place, told] of [
      [
        'The chat template of /srv/my models/a/chat_template.jinja cannot render this: x',
        'The chat template of chat_template.jinja cannot render this: x',
      ],
      [
        'C:\\models\\a has no chat template (chat_template.jinja, or others)',
        'a has no chat template (chat_template.jinja, or others)',
      ],
      ['image 1 (/tmp/x.png): there is no such file', 'image 1 (x.png): there is no such file'],
      // What a client said itself is told as it is.
      [
        'Unknown experts implementation "/a/b"; see http://a.example/b/c',
        'Unknown experts implementation "/a/b"; see http://a.example/b/c',
      ],
      [
        'The JSON schema cannot be enforced: #/a/b is "/c/d"',
        'The JSON schema cannot be enforced: #/a/b is "/c/d"',
      ],
    ] as const)
      for (const kind of [InputError, TokenizerError])
        expect(apiErrorOf(new kind(place), () => {}).message).toBe(told);
  });
});
