import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { AutoModelForCausalLM, type CausalLM, DEMO_MODEL, InputError } from '../../src/index.ts';
import { createServer, type Listening, listen, type ServerOptions } from '../../src/server/index.ts';
import { post } from './serving.ts';

let listening: Listening | undefined;
/** What has happened: loads and ends, by name. */
let events: string[];
/** Models in memory, and the most there have ever been. */
let present = 0;
let most = 0;

afterEach(async () => {
  await listening?.close();
  expect(present).toBe(0);
});

function onDemand(name: string, bytes: number) {
  return {
    name,
    bytes,
    load: async (): Promise<CausalLM> => {
      const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
      most = Math.max(most, ++present);
      events.push(`+${name}`);
      const dispose = model.dispose.bind(model);
      model.dispose = async () => {
        events.push(`-${name}`);
        present--;
        await dispose();
      };
      return model;
    },
  };
}

async function serve(
  models: Parameters<typeof createServer>[0],
  options: ServerOptions = {},
): Promise<string> {
  [events, present, most] = [[], 0, 0];
  listening = await listen(createServer(models, { onError: () => {}, ...options }), { port: 0 });
  return listening.url;
}

const ask = (url: string, model: string, tokens = 4) =>
  post(`${url}/v1/chat/completions`, {
    model,
    messages: [{ role: 'user', content: 'Hi' }],
    max_tokens: tokens,
    temperature: 0,
  });

describe('models on demand', () => {
  it('are loaded when they are asked for, and the one unused for longest gives way', async () => {
    const url = await serve([onDemand('a', 40), onDemand('b', 40), onDemand('c', 40)], {
      maxModelBytes: 100,
    });
    expect(events).toEqual([]);
    const listed = async () => {
      const { data } = (await (await fetch(`${url}/v1/models`)).json()) as {
        data: Record<string, unknown>[];
      };
      return data.map(({ id, loaded, max_model_len: length }) => [id, loaded, length]);
    };
    expect(await listed()).toEqual([
      ['a', false, null],
      ['b', false, null],
      ['c', false, null],
    ]);
    for (const name of ['a', 'b', 'a']) expect((await ask(url, name)).status).toBe(200);
    expect(events).toEqual(['+a', '+b']);
    await ask(url, 'c');
    expect(events).toEqual(['+a', '+b', '-b', '+c']);
    expect(await listed()).toEqual([
      ['a', true, 1024],
      ['b', false, null],
      ['c', true, 1024],
    ]);
    // Tokens are counted by a model, too.
    expect((await post(`${url}/tokenize`, { model: 'b', prompt: 'Hi' })).status).toBe(200);
    expect(events.slice(4)).toEqual(['-a', '+b']);
  });

  it('answer all who ask at once, in whichever order, within the bound', async () => {
    const url = await serve([onDemand('a', 60), onDemand('b', 60)], { maxModelBytes: 100, maxRunning: 12 });
    const names = ['a', 'b', 'a', 'a', 'b', 'a', 'b', 'b', 'a', 'b', 'a', 'b'];
    const answers = await Promise.all(names.map((name) => ask(url, name, 12)));
    expect(answers.map(({ status, body }) => [status, body.model])).toEqual(names.map((name) => [200, name]));
    const texts = answers.map(
      ({ body }) => (body.choices as { message: { content: string } }[])[0]?.message.content,
    );
    expect(new Set(texts).size).toBe(1);
    expect(most).toBe(1);
  });

  it('stay until a stream of theirs is over', async () => {
    const url = await serve([onDemand('a', 60), onDemand('b', 60)], { maxModelBytes: 100 });
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({
        model: 'a',
        messages: [{ role: 'user', content: 'Hi' }],
        max_tokens: 200,
        stream: true,
      }),
    });
    const other = ask(url, 'b');
    const text = await response.text();
    expect(text).toMatch(/data: \[DONE\]\n\n$/);
    expect((await other).status).toBe(200);
    expect(events).toEqual(['+a', '-a', '+b']);
  });

  it('are let go of by who leaves in the midst of an answer', async () => {
    const url = await serve([onDemand('a', 60), onDemand('b', 60)], { maxModelBytes: 100 });
    const over = new AbortController();
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      signal: over.signal,
      body: JSON.stringify({
        model: 'a',
        messages: [{ role: 'user', content: 'Hi' }],
        max_tokens: 900,
        stream: true,
      }),
    });
    await response.body?.getReader().read();
    over.abort();
    expect((await ask(url, 'b')).status).toBe(200);
  });

  it('that cannot be loaded are an error, and are tried again the next time', async () => {
    let tries = 0;
    const good = onDemand('a', 1);
    const load = () =>
      ++tries === 1 ? sleep(1).then(() => Promise.reject(new Error('no such disk'))) : good.load();
    const url = await serve({ ...good, load });
    const { status, body } = await ask(url, 'a');
    expect(status).toBe(500);
    expect(JSON.stringify(body)).not.toContain('disk');
    expect((await ask(url, 'a')).status).toBe(200);
  });

  it('share a server with models that stay', async () => {
    const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
    const url = await serve([{ model, name: 'here' }, onDemand('a', 60)], { maxModelBytes: 60 });
    expect((await ask(url, 'here')).status).toBe(200);
    expect((await ask(url, 'a')).status).toBe(200);
    await listening?.close();
    // The one that stays is its owner's.
    expect((await model.generate({ prompt: 'Hi', maxNewTokens: 2 })).sequences).toHaveLength(1);
    await model.dispose();
    expect(events).toEqual(['+a', '-a']);
  });

  it('that can never be loaded are refused at once', () => {
    expect(() => createServer(onDemand('a', 200), { maxModelBytes: 100 })).toThrow(
      'createServer: a takes 200 bytes, more than maxModelBytes, 100. Raise it',
    );
    expect(() => createServer({ ...onDemand('a', 1), bytes: Number.NaN })).toThrow(InputError);
    expect(() => createServer({ ...onDemand('a', 1), load: 'x' as never })).toThrow('a function that loads');
    expect(() => createServer([onDemand('a', 1), onDemand('a', 1)])).toThrow('two models are named "a"');
  });
});
