import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { post, type Serving, serveDemo } from './serving.ts';

interface Activity {
  running: number;
  waiting: number;
  routing: { layers: number[]; experts: number; tokens: number; load: number[][] } | null;
}

let serving: Serving;
beforeEach(async () => {
  serving = await serveDemo();
});
afterEach(() => serving.stop());

/** Reads events into `seen`, until the stream ends or it is told to stop. */
function watch(query: string) {
  const over = new AbortController();
  const seen: Activity[] = [];
  const ended = (async () => {
    const response = await fetch(`${serving.url}/activity?${query}`, { signal: over.signal });
    const decoder = new TextDecoder();
    let text = '';
    for await (const bytes of response.body ?? []) {
      const events = (text + decoder.decode(bytes as Uint8Array, { stream: true })).split('\n\n');
      text = events.pop() ?? '';
      seen.push(...events.map((event) => JSON.parse(event.replace('data: ', '')) as Activity));
    }
  })().catch((error: unknown) => {
    if (!over.signal.aborted) throw error;
  });
  return { seen, ended, stop: () => over.abort() };
}

const question = { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 6, temperature: 0 };
const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

describe('/activity', () => {
  it('counts where tokens go, each of them once', async () => {
    const { seen, stop } = watch('model=demo&routing=true');
    await expect.poll(() => seen.length).toBeGreaterThan(0);
    const { body } = await post(`${serving.url}/v1/chat/completions`, question);
    // The last token is chosen and not computed.
    const tokens = (body.usage as { total_tokens: number }).total_tokens - 1;
    await expect.poll(() => sum(seen.map(({ routing }) => routing?.tokens ?? 0))).toBe(tokens);
    stop();
    const { layers, experts, load } = seen.at(-1)?.routing ?? {};
    expect([layers, experts, load?.length]).toEqual([[0, 1, 2, 3, 4], 16, 5]);
    const ofLayer = (layer: number) => sum(seen.map(({ routing }) => sum(routing?.load[layer] ?? [])));
    expect(ofLayer(0)).toBe(4 * tokens);
    // Of the prompt, only the last token goes through the last layer.
    expect(ofLayer(4)).toBe(4 * 6);
  });

  it('has passes tell nothing where nobody asks for the routing', async () => {
    const { seen, stop } = watch('');
    await expect.poll(() => seen.length).toBeGreaterThan(1);
    stop();
    expect(seen[0]).toEqual({ running: 0, waiting: 0, routing: null });
  });

  it('ends with the server, and takes no more watchers than it can serve', async () => {
    const watchers = Array.from({ length: 32 }, () => watch(''));
    await expect.poll(() => watchers.every(({ seen }) => seen.length > 0)).toBe(true);
    expect((await fetch(`${serving.url}/activity`)).status).toBe(429);
    watchers[0]?.stop();
    await expect
      .poll(async () => {
        const response = await fetch(`${serving.url}/activity`);
        await response.body?.cancel();
        return response.status;
      })
      .toBe(200);
    await serving.server.drain();
    await Promise.all(watchers.map(({ ended }) => ended));
    expect((await fetch(`${serving.url}/activity?model=other`)).status).toBe(404);
  });
});
