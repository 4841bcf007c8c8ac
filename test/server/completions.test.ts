import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { post, type Serving, serveDemo } from './serving.ts';

let serving: Serving;
let client: OpenAI;
beforeAll(async () => {
  serving = await serveDemo();
  client = new OpenAI({ baseURL: `${serving.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(() => serving.stop());

describe('/v1/completions, asked by the openai client', () => {
  const asked = { model: 'demo', prompt: 'Once upon a time', max_tokens: 8, temperature: 0 };

  it('goes on from a text as generate does, from ids alike', async () => {
    const { choices, usage } = await client.completions.create(asked);
    const inputIds = [serving.tokenizer.encode(asked.prompt)];
    const output = await serving.model.generate({
      inputIds,
      tokenizer: serving.tokenizer,
      maxNewTokens: 8,
      doSample: false,
    });
    expect(choices[0]?.text).toBe(output.text?.[0]);
    expect(usage).toMatchObject({ prompt_tokens: inputIds[0]?.length, completion_tokens: 8 });
    const byIds = await client.completions.create({ ...asked, prompt: inputIds[0] as number[] });
    expect(byIds.choices[0]?.text).toBe(choices[0]?.text);
  });

  it('takes several prompts, and gives several answers to each', async () => {
    const { choices } = await client.completions.create({
      ...asked,
      prompt: ['One', 'Two'],
      n: 2,
      temperature: 1,
      seed: 3,
    });
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(choices[0]?.text).not.toBe(choices[1]?.text);
  });

  it('streams', async () => {
    const { choices } = await client.completions.create(asked);
    let text = '';
    for await (const chunk of await client.completions.create({ ...asked, stream: true }))
      text += chunk.choices[0]?.text ?? '';
    expect(text).toBe(choices[0]?.text);
  });

  it('tells how likely its tokens were', async () => {
    const { choices } = await client.completions.create({ ...asked, logprobs: 2 });
    const { tokens, token_logprobs: values, text_offset: offsets } = choices[0]?.logprobs ?? {};
    expect(tokens?.join('')).toBe(choices[0]?.text);
    expect(values).toHaveLength(8);
    expect(offsets?.[1]).toBe(tokens?.[0]?.length);
  });

  it('names what it does not do', async () => {
    await expect(client.completions.create({ ...asked, suffix: 'the end' })).rejects.toThrow(
      '400 suffix: is not taken',
    );
    await expect(client.completions.create({ ...asked, prompt: '' })).rejects.toThrow('400 prompt: is empty');
    await expect(client.completions.create({ ...asked, prompt: [9999999] })).rejects.toThrow('400 inputIds');
    await expect(
      client.completions.create({ ...asked, prompt: new Array<string>(65).fill('a') }),
    ).rejects.toThrow('at most 64');
  });
});

describe('/tokenize and /detokenize', () => {
  it('are each other the wrong way round', async () => {
    const { body } = await post(`${serving.url}/tokenize`, { prompt: 'Once upon a time' });
    expect(body.tokens).toEqual(serving.tokenizer.encode('Once upon a time'));
    const back = await post(`${serving.url}/detokenize`, { tokens: body.tokens });
    expect(back.body.prompt).toBe('Once upon a time');
  });

  it('lay conversations out', async () => {
    const messages = [{ role: 'user', content: 'Hello' }];
    const { body } = await post(`${serving.url}/tokenize`, { messages });
    expect(body.tokens).toEqual(
      serving.tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true }).inputIds[0],
    );
    expect((await post(`${serving.url}/tokenize`, {})).status).toBe(400);
  });
});
