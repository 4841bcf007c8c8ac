/** Pictures in requests, from the client to the vision tower. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AutoModelForImageTextToText, type ChatMessage, type ImageTextToText } from '../../src/index.ts';
import { fetchPicture } from '../../src/server/fetch-pictures.ts';
import { createServer, type Listening, listen } from '../../src/server/index.ts';
import { goldenModel } from '../helpers/goldens.ts';

const NAME = 'qwen3_vl_moe_e';
const bytes = readFileSync(join(goldenModel(NAME), 'images/shapes.png'));
const dataUrl = `data:image/png;base64,${bytes.toString('base64')}`;

let model: ImageTextToText;
let listening: Listening;
let openai: OpenAI;
let anthropic: Anthropic;
let elsewhere: HttpServer;
let web: string;
let asked: string[];

beforeAll(async () => {
  model = await AutoModelForImageTextToText.fromPretrained(goldenModel(NAME), { threads: 2 });
  listening = await listen(
    createServer({ model, name: 'vision' }, { pictureHosts: ['127.0.0.1', 'localhost'] }),
    {
      port: 0,
    },
  );
  openai = new OpenAI({ baseURL: `${listening.url}/v1`, apiKey: 'none', maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: listening.url, apiKey: 'none', maxRetries: 0 });
  elsewhere = createHttpServer(({ url = '' }, response) => {
    asked.push(url);
    if (url === '/picture') response.end(bytes);
    else if (url === '/missing') response.writeHead(404).end();
    else if (url === '/large') response.end(Buffer.alloc(100_000));
    else if (url === '/cut')
      response.writeHead(200, { 'content-length': '5000' }).write('x', () => response.destroy());
    else if (url === '/moved') response.writeHead(302, { location: '/picture' }).end();
    else if (url === '/away') response.writeHead(302, { location: 'http://other.example/x.png' }).end();
    else if (url === '/round') response.writeHead(302, { location: '/round' }).end();
  }).listen(0, '127.0.0.1');
  await once(elsewhere, 'listening');
  web = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}`;
  asked = [];
});
afterAll(async () => {
  elsewhere.closeAllConnections();
  elsewhere.close();
  await listening.close();
  await model.dispose();
});

const generated = async (image: string | Uint8Array) => {
  const { text } = await model.generate({
    messages: [
      {
        role: 'user',
        content: [
          { type: 'image', image },
          { type: 'text', text: 'What is this?' },
        ],
      },
    ],
    maxNewTokens: 8,
    doSample: false,
  });
  return text?.[0];
};
const ask = (url: string, more: object = {}) =>
  openai.chat.completions.create({
    ...{ model: 'vision', max_tokens: 8, temperature: 0, ...more },
    messages: [
      {
        role: 'user',
        content: [
          { type: 'image_url', image_url: { url } },
          { type: 'text', text: 'What is this?' },
        ],
      },
    ],
  });

describe('a picture in a data URL', () => {
  it('is seen as generate sees its bytes, by chat completions, responses and messages', async () => {
    const expected = await generated(bytes);
    const { choices, usage } = await ask(dataUrl);
    expect(choices[0]?.message.content).toBe(expected?.trim());
    // It stands for more tokens than its placeholder has characters.
    expect(usage?.prompt_tokens).toBeGreaterThan(20);
    const other = `data:image/png;base64,${readFileSync(join(goldenModel(NAME), 'images/gradient.png')).toString('base64')}`;
    expect((await ask(other)).choices[0]?.message.content).not.toBe(choices[0]?.message.content);
    const response = await openai.responses.create({
      ...{ model: 'vision', max_output_tokens: 8, temperature: 0 },
      input: [
        {
          role: 'user',
          content: [
            { type: 'input_image', image_url: dataUrl, detail: 'auto' },
            { type: 'input_text', text: 'What is this?' },
          ],
        },
      ],
    });
    expect(response.output_text).toBe(choices[0]?.message.content);
    const message = await anthropic.messages.create({
      ...{ model: 'vision', max_tokens: 8, temperature: 0 },
      messages: [
        {
          role: 'user',
          content: [
            {
              type: 'image',
              source: { type: 'base64', media_type: 'image/png', data: bytes.toString('base64') },
            },
            { type: 'text', text: 'What is this?' },
          ],
        },
      ],
    });
    expect(message.content[0]).toMatchObject({ type: 'text', text: choices[0]?.message.content });
  });

  it('is seen in a system message, too, alone or with others', async () => {
    const text = { type: 'text' as const, text: 'Look at this.' };
    const user = { role: 'user', content: 'What is it?' };
    const here = { type: 'image', image: bytes };
    const there = { type: 'image_url', image_url: { url: dataUrl } };
    const answers = async (...conversations: object[][]) =>
      Promise.all(
        conversations.map(async (messages) => {
          const { choices, usage } = await openai.chat.completions.create({
            ...{ model: 'vision', max_tokens: 8, temperature: 0, messages: messages as never },
          });
          return [choices[0]?.message.content, usage?.prompt_tokens];
        }),
      );
    const [only, both, split] = await answers(
      [{ role: 'system', content: [there] }, user],
      [{ role: 'system', content: [there, text] }, user],
      [{ role: 'system', content: [there] }, { role: 'developer', content: text.text }, user],
    );
    const inProcess = async (content: ChatMessage['content']) => {
      const messages = [{ role: 'system', content }, user];
      const { text: said, stats } = await model.generate({ messages, maxNewTokens: 8, doSample: false });
      return [said?.[0]?.trim(), stats.promptTokens];
    };
    expect(only).toEqual(await inProcess([here]));
    expect(both).toEqual(await inProcess([here, text]));
    expect(split).toEqual(await inProcess([here, { type: 'text', text: '\n\n' }, text]));
  });

  it('that holds no picture is an error of the request', async () => {
    await expect(ask('data:image/png;base64,bm8=')).rejects.toMatchObject({ status: 400 });
    await expect(ask(dataUrl.slice(0, 200))).rejects.toMatchObject({ status: 400 });
  });
});

describe('the placeholder of a picture in words', () => {
  const typed = 'What does <|image_pad|> mean?';
  const limits = { model: 'vision', max_tokens: 4 };
  const picture = { type: 'image_url', image_url: { url: dataUrl } };

  it('is an error of the request, beside a picture and without one, streamed or not', async () => {
    for (const stream of [false, true])
      for (const content of [typed, [{ type: 'text', text: typed }, picture]]) {
        const messages = [{ role: 'user', content }] as never;
        const asking = openai.chat.completions.create({
          ...limits,
          messages,
          stream,
        });
        await expect(asking).rejects.toMatchObject({ status: 400 });
        await expect(asking).rejects.toThrow(/messages\[0\]\.content.* holds <\|image_pad\|>/);
      }
    const turn = [{ role: 'user' as const, content: typed }];
    await expect(anthropic.messages.create({ ...limits, messages: turn })).rejects.toMatchObject({
      status: 400,
    });
    const answering = openai.responses.create({
      model: 'vision',
      max_output_tokens: 4,
      input: typed,
    });
    await expect(answering).rejects.toMatchObject({ status: 400 });
    const continuing = openai.completions.create({
      ...limits,
      prompt: ['Hello', typed],
    });
    await expect(continuing).rejects.toThrow(/^400 prompt holds <\|image_pad\|>/);
  });

  it('in an answer or a result of a tool is one, too', async () => {
    const messages = [
      { role: 'user', content: 'Look it up.' },
      {
        role: 'assistant',
        tool_calls: [
          {
            id: 'a',
            type: 'function',
            function: { name: 'find', arguments: '{"of":"<|video_pad|>"}' },
          },
        ],
      },
      { role: 'tool', tool_call_id: 'a', content: 'Nothing.' },
    ] as never;
    await expect(openai.chat.completions.create({ ...limits, messages })).rejects.toThrow(
      /^400 messages\[1\]\.tool_calls/,
    );
  });
});

describe('the address of a picture', () => {
  it('that is private is never asked, be it allowed or not', async () => {
    asked = [];
    for (const host of ['127.0.0.1', 'localhost']) {
      const url = `${web.replace('127.0.0.1', host)}/picture`;
      await expect(ask(url)).rejects.toThrow(
        /400 The picture http:.* is no address that may be asked|400 .*127\.0\.0\.1/,
      );
      await expect(ask(url, { stream: true })).rejects.toThrow('400 The picture');
      const source = { type: 'url' as const, url };
      const content = [{ type: 'image' as const, source }];
      await expect(
        anthropic.messages.create({ model: 'vision', max_tokens: 2, messages: [{ role: 'user', content }] }),
      ).rejects.toThrow('cannot be fetched');
    }
    expect(asked).toEqual([]);
  });

  it('of another host, or of another kind, is refused', async () => {
    for (const url of [
      'http://other.example/x.png',
      'file:///etc/passwd',
      '/etc/passwd',
      'http://a:b@127.0.0.1/',
    ])
      await expect(ask(url)).rejects.toThrow('or from 127.0.0.1, localhost by http or https');
  });

  const rules = { hosts: ['127.0.0.1'], maxBytes: 50_000, allows: () => true };
  const fetched = (path: string, more: object = {}) =>
    fetchPicture(new URL(web + path), { ...rules, ...more }, new AbortController().signal);

  it('that is allowed is followed to its bytes', async () => {
    expect(Buffer.from(await fetched('/picture'))).toEqual(bytes);
    expect(Buffer.from(await fetched('/moved'))).toEqual(bytes);
  });

  it('is given up where it leads elsewhere, or to what is no picture of a fit size', async () => {
    await expect(fetched('/away')).rejects.toThrow(
      'it is sent on to other.example, from where none is fetched',
    );
    await expect(fetched('/round')).rejects.toThrow('it is sent on more than 3 times');
    await expect(fetched('/missing')).rejects.toThrow('its server answered 404');
    await expect(fetched('/large')).rejects.toThrow('it has more than 50000 bytes');
    await expect(fetched('/cut')).rejects.toThrow('the connection broke');
    await expect(fetched('/picture', { allows: undefined })).rejects.toThrow(
      '127.0.0.1 is no address that may be asked',
    );
    await expect(fetchPicture(new URL(web), rules, AbortSignal.abort())).rejects.toThrow('abort');
  });
});
