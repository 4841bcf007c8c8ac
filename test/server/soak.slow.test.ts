import { afterAll, beforeAll, expect, it } from 'vitest';
import { Random } from '../helpers/random.ts';
import { post, type Serving, serveDemo } from './serving.ts';

const REQUESTS = 300;
const AT_ONCE = 16;
const WORDS = ['river', 'lantern', 'winter', 'stone', 'bird', 'letter'];

let serving: Serving;
beforeAll(async () => {
  serving = await serveDemo();
});
afterAll(() => serving.stop());

const question = (word: string, stream: boolean) => ({
  messages: [{ role: 'user', content: `Tell me of a ${word}.` }],
  max_tokens: 24,
  temperature: 0,
  stream,
});
const ask = async (word: string) => {
  const { body } = await post(`${serving.url}/v1/chat/completions`, question(word, false));
  return (body.choices as { message: { content: string } }[])[0]?.message.content;
};

/** Asks for a stream, reads a part of it, and leaves. */
async function leaveMidway(word: string): Promise<void> {
  const abort = new AbortController();
  const response = await fetch(`${serving.url}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({ ...question(word, true), max_tokens: 400 }),
    signal: abort.signal,
  });
  const reader = response.body?.getReader();
  await reader?.read();
  abort.abort();
  await reader?.read().catch(() => {});
}

it('answers as when it is asked alone, whoever leaves midway or sends what is malformed', async () => {
  const alone = new Map<string, string | undefined>();
  for (const word of WORDS) alone.set(word, await ask(word));
  const random = new Random(9);
  let next = 0;
  const client = async () => {
    while (next < REQUESTS) {
      const number = next++;
      const word = WORDS[Math.floor(random.next() * WORDS.length)] as string;
      if (number % 5 === 0) await leaveMidway(word);
      else if (number % 10 === 1)
        expect((await post(`${serving.url}/v1/chat/completions`, '{"messages": 1')).status).toBe(400);
      else expect(await ask(word)).toBe(alone.get(word));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, client));
  const figures = async () => (await fetch(`${serving.url}/metrics`)).text();
  await expect.poll(figures).toContain('switchyard_requests_running 0');
  expect(await figures()).toContain('switchyard_requests_waiting 0');
  expect(serving.faults).toEqual([]);
});
