/** What generation_config.json says of answers, whoever asks for them. */
import { generateText } from 'ai';
import { afterEach, describe, expect, it } from 'vitest';
import { languageModel } from '../../src/ai-sdk/index.ts';
import { ConfigError } from '../../src/index.ts';
import { ChatSwitchyard } from '../../src/langchain/index.ts';
import { linkedModel } from '../helpers/checkpoints.ts';
import { DEMO_FOLDER } from '../helpers/goldens.ts';
import { post, type Serving, serveDemo } from './serving.ts';

const prompt = 'Tell me a story.';
const messages = [{ role: 'user', content: prompt }];

describe('generation_config.json', () => {
  const ends: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  async function serve(generationConfig: object): Promise<Serving> {
    const { folder, remove } = linkedModel(DEMO_FOLDER, {
      'generation_config.json': generationConfig,
    });
    ends.push(remove);
    const serving = await serveDemo({}, folder);
    ends.push(() => serving.stop());
    return serving;
  }

  /** What is answered over HTTP. */
  async function ask({ url }: Serving, fields: object) {
    const { status, body } = await post(`${url}/v1/chat/completions`, {
      model: 'demo',
      messages,
      ...fields,
    });
    expect(body).not.toHaveProperty('error');
    expect(status).toBe(200);
    const [choice] = body.choices as {
      message: { content: string };
      finish_reason: string;
    }[];
    return {
      text: choice?.message.content ?? '',
      finish: choice?.finish_reason,
    };
  }

  it.each([
    ['greedy', { do_sample: false }],
    ['greedy at a temperature of 0', { do_sample: false, temperature: 0 }],
  ])('says whether to sample: %s, whatever top_p, top_k and min_p are', async (_, file) => {
    const serving = await serve(file);
    const { model } = serving;
    const greedy = (await ask(serving, { max_tokens: 12, temperature: 0 })).text;
    for (const fields of [{ top_p: 1 }, { top_k: 1000 }, { min_p: 0 }, { top_p: 0.99, seed: 3 }])
      expect((await ask(serving, { max_tokens: 12, ...fields })).text).toBe(greedy);
    const told = await generateText({
      model: languageModel(model),
      prompt,
      topP: 1,
      maxOutputTokens: 12,
    });
    expect(told.text.trim()).toBe(greedy.trim());
    const said = await new ChatSwitchyard({
      model,
      topP: 1,
      maxTokens: 12,
    }).invoke(prompt);
    expect(said.text.trim()).toBe(greedy.trim());
    const sampled = [1, 2, 3].map((seed) => ask(serving, { max_tokens: 12, temperature: 5, top_k: 0, seed }));
    expect(new Set((await Promise.all(sampled)).map(({ text }) => text)).size).toBeGreaterThan(1);
  });

  it('may ask for beams and several sequences: what streams is one sequence, and that is told once', async () => {
    const file = { do_sample: false, num_beams: 3, num_return_sequences: 2 };
    const plain = await ask(await serve({ do_sample: false }), { max_tokens: 12 });
    const serving = await serve(file);
    expect(await ask(serving, { max_tokens: 12 })).toEqual(plain);
    expect(await ask(serving, { max_tokens: 12, temperature: 0 })).toEqual(plain);
    await ask(serving, { max_tokens: 4, temperature: 1, logprobs: true });
    const { model, warnings } = serving;
    expect(warnings).toEqual([
      expect.stringMatching(/generation_config\.json: num_beams is 3, .*taken as 1/),
      expect.stringMatching(/generation_config\.json: num_return_sequences is 2, .*taken as 1/),
    ]);
    const asked = { messages, maxNewTokens: 4 };
    expect((await model.generate(asked)).sequences).toHaveLength(2);
    await expect(model.generate({ ...asked, numBeams: 2, streamer: () => {} })).rejects.toThrow(/numBeams/);
  });

  it.each([
    [
      { do_sample: true, temperature: 0 },
      /generation_config\.json: temperature is 0, but do_sample asks for sampling/,
    ],
    [{ do_sample: true, top_p: 7 }, /generation_config\.json: top_p is 7; expected .*Correct the file/],
    [{ repetition_penalty: 'high' }, /generation_config\.json: repetition_penalty is "high"/],
  ])('is refused by a server where no answer could be made with it: %j', async (file, message) => {
    await expect(serve(file)).rejects.toThrow(message);
    await expect(serve(file)).rejects.toThrow(ConfigError);
  });

  it('is named to who leaves to it what it says wrongly, without its place', async () => {
    const serving = await serve({ do_sample: false, temperature: 0, top_k: -1, top_p: 7 });
    const { url, faults } = serving;
    await ask(serving, { max_tokens: 4 });
    await ask(serving, { max_tokens: 4, temperature: 1, top_k: 5, top_p: 1 });
    for (const fields of [{}, { stream: true }]) {
      const refused = await post(`${url}/v1/chat/completions`, {
        ...{ messages, max_tokens: 4, temperature: 1, top_p: 1, ...fields },
      });
      expect([refused.status, refused.body.error]).toEqual([
        400,
        expect.objectContaining({
          message: expect.stringMatching(/^generation_config\.json: top_k is -1; expected/),
        }),
      ]);
    }
    expect(faults).toEqual([]);
  });

  it('says how long an answer may be, where a request does not', async () => {
    const serving = await serve({ do_sample: false, max_new_tokens: 5 });
    const short = await ask(serving, {});
    expect(short.finish).toBe('length');
    expect(await ask(serving, { max_tokens: 5 })).toEqual(short);
    const long = await ask(serving, { max_tokens: 12 });
    expect(long.text.length).toBeGreaterThan(short.text.length);
    const { model } = serving;
    expect((await generateText({ model: languageModel(model), prompt })).usage.outputTokens).toBe(5);
    const said = await new ChatSwitchyard({ model }).invoke(prompt);
    expect(said.usage_metadata).toMatchObject({ output_tokens: 5 });
  });

  it('says at which texts to stop, where a request does not', async () => {
    const serving = await serve({ do_sample: false });
    const free = (await ask(serving, { max_tokens: 12 })).text;
    const [early, late] = [free.slice(4, 8), free.slice(8, 12)];
    const stopping = await serve({ do_sample: false, stop_strings: [early] });
    const cut = free.slice(0, free.indexOf(early));
    expect(await ask(stopping, { max_tokens: 12 })).toEqual({ text: cut, finish: 'stop' });
    expect((await ask(stopping, { max_tokens: 12, stop: late })).text).toBe(
      free.slice(0, free.indexOf(late)),
    );
    expect((await ask(stopping, { max_tokens: 12, stop: [] })).text).toBe(free);
    const { model } = stopping;
    const told = await generateText({ model: languageModel(model), prompt, maxOutputTokens: 12 });
    expect(told.text.trim()).toBe(cut.trim());
    const said = await new ChatSwitchyard({ model, maxTokens: 12 }).invoke(prompt);
    expect(said.text.trim()).toBe(cut.trim());
  });
});
