import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
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

  it('tells where tokens begin in the text, also behind a character of several tokens', async () => {
    const { tokenizer } = serving;
    const said = 'né 🙂 fin';
    const ids = tokenizer.encode(said);
    // Some of its characters take several tokens.
    expect(ids.length).toBeGreaterThan([...said].length);
    const beginnings: number[] = [];
    for (const [i] of ids.entries()) {
      const before = Buffer.concat(ids.slice(0, i).map((id) => tokenizer.tokenBytes(id) as Uint8Array));
      beginnings.push([...new TextDecoder().decode(before).replace(/\uFFFD$/, '')].length);
    }
    const prompt = `${said} `;
    const echo = { model: 'demo', prompt, echo: true, logprobs: 0, max_tokens: 4, temperature: 0 };
    const { choices } = await client.completions.create(echo);
    const { text_offset: offsets = [], tokens = [] } = choices[0]?.logprobs ?? {};
    expect(offsets.slice(0, ids.length)).toEqual(beginnings);
    const text = [...(choices[0]?.text ?? '')];
    // Each token that is a text of its own stands where its offset says.
    for (const [i, token] of tokens.entries())
      if (!token.includes('\uFFFD')) expect(text.slice(offsets[i]).join('').startsWith(token)).toBe(true);
    let streamed: number[] = [];
    for await (const chunk of await client.completions.create({ ...echo, stream: true }))
      streamed = [...streamed, ...(chunk.choices[0]?.logprobs?.text_offset ?? [])];
    expect(streamed).toEqual(offsets);
  });

  it('does so in answers, too, whole and streamed alike', async () => {
    const { tokenizer, model } = serving;
    const said = tokenizer.encode('🙂é!');
    expect(said.length).toBeGreaterThan(4);
    const prompt = tokenizer.encode(asked.prompt);
    const generate = model.generate.bind(model);
    vi.spyOn(model, 'generate').mockImplementation((options) =>
      generate({
        ...options,
        prefixAllowedTokensFn: (tokens) => [said[tokens.length - prompt.length] as number],
      }),
    );
    const body = { ...asked, max_tokens: said.length, logprobs: 0 };
    const { choices } = await client.completions.create(body);
    expect(choices[0]?.text).toBe('🙂é!');
    const { text_offset: offsets = [] } = choices[0]?.logprobs ?? {};
    const bytes = said.map((id) => tokenizer.tokenBytes(id) as Uint8Array);
    const starts = bytes.map((_, i) => Buffer.concat(bytes.slice(0, i)).length);
    // Four bytes of one character, two of the next, then the third.
    expect(offsets).toEqual(starts.map((byte) => (byte < 4 ? 0 : byte < 6 ? 1 : 2)));
    let streamed: number[] = [];
    for await (const chunk of await client.completions.create({ ...body, stream: true }))
      streamed = [...streamed, ...(chunk.choices[0]?.logprobs?.text_offset ?? [])];
    expect(streamed).toEqual(offsets);
    const echoed = await client.completions.create({ ...body, echo: true });
    expect(echoed.choices[0]?.logprobs?.text_offset?.slice(prompt.length)).toEqual(
      offsets.map((offset) => offset + asked.prompt.length),
    );
  });

  it('streams log-probabilities with the texts that they belong to', async () => {
    const { choices } = await client.completions.create({ ...asked, logprobs: 1 });
    const chunks: (OpenAI.CompletionChoice | undefined)[] = [];
    for await (const chunk of await client.completions.create({ ...asked, logprobs: 1, stream: true }))
      chunks.push(chunk.choices[0]);
    const all = <T>(of: (logprobs: OpenAI.CompletionChoice.Logprobs) => T[] | undefined) =>
      chunks.flatMap((choice) => (choice?.logprobs ? (of(choice.logprobs) ?? []) : []));
    const whole = choices[0]?.logprobs;
    expect(all(({ tokens }) => tokens)).toEqual(whole?.tokens);
    expect(all(({ token_logprobs }) => token_logprobs)).toEqual(whole?.token_logprobs);
    expect(all(({ top_logprobs }) => top_logprobs)).toEqual(whole?.top_logprobs);
    expect(all(({ text_offset }) => text_offset)).toEqual(whole?.text_offset);
    for (const choice of chunks.slice(0, -1)) expect(choice?.logprobs?.tokens?.join('')).toBe(choice?.text);
  });

  describe('with echo', () => {
    /** Of each token of a row, its log-probability by the logits of `forward`, and the highest of all. */
    async function byForward(ids: readonly number[]) {
      const { logits } = await serving.model.forward({ inputIds: [ids] });
      const vocab = logits.dims[2] as number;
      return ids.slice(1).map((id, i) => {
        const row = (logits.data as Float32Array).subarray(i * vocab, (i + 1) * vocab);
        const most = row.reduce((a, b) => Math.max(a, b));
        const rest = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - most), 0));
        return { own: (row[id] as number) - most - rest, best: -rest };
      });
    }

    /** What lm-eval makes of a choice: the log-likelihood of what follows `context` tokens, and whether greedy decoding would write it. */
    function read({ logprobs }: OpenAI.CompletionChoice, context: number) {
      const own = (logprobs?.token_logprobs ?? []).slice(context, -1);
      const top = (logprobs?.top_logprobs ?? []).slice(context, -1);
      return {
        sum: own.reduce((a, b) => a + b, 0),
        isGreedy: own.every((value, i) => value === Math.max(...Object.values(top[i] ?? {}))),
      };
    }

    it('gives the log-likelihoods of forward to lm-eval, of several prompts of ids', async () => {
      const texts = ['In the beginning God created the heaven and the earth.', 'And the LORD said'];
      const greedy = await client.completions.create({ ...asked, prompt: 'Once upon a time', max_tokens: 6 });
      const prompts = [...texts, `Once upon a time${greedy.choices[0]?.text}`].map((text) =>
        serving.tokenizer.encode(text),
      );
      // As lm_eval.models.openai_completions.LocalCompletionsAPI asks.
      const request = {
        model: 'demo',
        prompt: prompts,
        temperature: 0,
        max_tokens: 1,
        logprobs: 1,
        seed: 1234,
      };
      const { choices } = await client.completions.create({ ...request, echo: true });
      expect(choices).toHaveLength(3);
      for (const [i, ids] of prompts.entries()) {
        const context = 3;
        const expected = (await byForward(ids)).slice(context - 1);
        const { sum, isGreedy } = read(choices[i] as OpenAI.CompletionChoice, context);
        expect(sum).toBeCloseTo(
          expected.reduce((total, { own }) => total + own, 0),
          4,
        );
        expect(isGreedy).toBe(expected.every(({ own, best }) => own === best));
        expect(choices[i]?.logprobs?.token_logprobs?.[0]).toBeNull();
        expect(choices[i]?.logprobs?.tokens).toHaveLength(ids.length + 1);
      }
      const prompted = serving.tokenizer.encode('Once upon a time').length;
      expect(read(choices[2] as OpenAI.CompletionChoice, prompted).isGreedy).toBe(true);
    });

    it('tells the prompt before each answer to it, or alone', async () => {
      const several = { ...asked, prompt: ['One', 'Two'], n: 2, temperature: 1, seed: 3, logprobs: 0 };
      const plain = await client.completions.create(several);
      const { choices, usage } = await client.completions.create({ ...several, echo: true });
      expect(choices.map(({ text }) => text)).toEqual(
        plain.choices.map(({ text }, i) => `${several.prompt[Math.floor(i / 2)]}${text}`),
      );
      // Among the tokens is the one that ends it.
      expect(choices[3]?.logprobs?.tokens?.join('').replace('<|im_end|>', '')).toBe(choices[3]?.text);
      expect(usage?.prompt_tokens).toBe(plain.usage?.prompt_tokens);
      const alone = await client.completions.create({ ...asked, max_tokens: 0, echo: true, logprobs: 0 });
      expect(alone.choices[0]).toMatchObject({ text: asked.prompt, finish_reason: 'length' });
      expect(alone.usage).toMatchObject({ completion_tokens: 0, total_tokens: alone.usage?.prompt_tokens });
      let streamed = '';
      for await (const chunk of await client.completions.create({ ...asked, echo: true, stream: true }))
        streamed += chunk.choices[0]?.text ?? '';
      const whole = await client.completions.create({ ...asked, echo: true });
      expect(streamed).toBe(whole.choices[0]?.text);
    });

    it('refuses what means nothing', async () => {
      await expect(client.completions.create({ ...asked, max_tokens: 0 })).rejects.toThrow(
        '400 max_tokens: is 0, which has a meaning only with echo: true',
      );
      const beyond = { ...asked, prompt: [9999999], echo: true, logprobs: 1 };
      await expect(client.completions.create(beyond)).rejects.toThrow(
        '400 The prompt, position 0 is 9999999',
      );
    });
  });

  it('names what it does not do', async () => {
    await expect(client.completions.create({ ...asked, suffix: 'the end' })).rejects.toThrow(
      '400 suffix: is not taken',
    );
    await expect(client.completions.create({ ...asked, prompt: '' })).rejects.toThrow('400 prompt: is empty');
    await expect(client.completions.create({ ...asked, prompt: [9999999] })).rejects.toThrow(
      '400 The prompt, position 0 is 9999999',
    );
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

  it('name the tokens as the vocabulary does', async () => {
    const ask = async (fields: object) =>
      (await post(`${serving.url}/tokenize`, { prompt: 'Once upon a time', ...fields })).body;
    const { tokens, token_strs: names } = await ask({ return_token_strs: true });
    expect(names).toEqual((tokens as number[]).map((id) => serving.tokenizer.idToToken(id)));
    expect((names as string[]).join('')).toBe('OnceĠuponĠaĠtime');
    expect((await ask({})).token_strs).toBeNull();
  });

  it('lay conversations out to go on with, and for a template', async () => {
    const messages = [
      { role: 'user', content: 'Hello' },
      { role: 'assistant', content: 'Good' },
    ];
    const ask = (fields: object) => post(`${serving.url}/tokenize`, { messages, ...fields });
    expect((await ask({ continue_final_message: true })).body.tokens).toEqual(
      serving.tokenizer.applyChatTemplate(messages, { continueFinalMessage: true }).inputIds[0],
    );
    const both = await ask({ continue_final_message: true, add_generation_prompt: true });
    expect([both.status, both.body.error]).toEqual([
      400,
      expect.objectContaining({ param: 'continue_final_message' }),
    ]);
    expect((await ask({ chat_template_kwargs: { tools: [] } })).status).toBe(400);
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
