/** What clients of vLLM, SGLang and llama.cpp's server send beside OpenAI's fields: served as they expect, or refused by name. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { post, type Serving, serveDemo } from './serving.ts';

let serving: Serving;
beforeAll(async () => {
  serving = await serveDemo();
});
afterAll(() => serving.stop());

const messages = [{ role: 'user', content: 'Tell me a story.' }];
const ASKED: [string, object][] = [
  ['/v1/chat/completions', { messages, max_tokens: 12 }],
  ['/v1/completions', { prompt: 'Once upon', max_tokens: 12 }],
  ['/v1/responses', { input: 'Hello', max_output_tokens: 12 }],
  ['/v1/messages', { messages, max_tokens: 12 }],
];

const send = (path: string, fields: object) =>
  post(serving.url + path, {
    ...{ model: 'demo', temperature: 0 },
    ...ASKED.find(([one]) => one === path)?.[1],
    ...fields,
  });

/** What a request is refused with. */
async function refusal(path: string, fields: object) {
  const { status, body } = await send(path, fields);
  return [status, (body.error as { message: string } | null | undefined)?.message];
}

/** A completion, and how many tokens it has. */
async function complete(fields: object) {
  const { status, body } = await send('/v1/completions', { ...fields });
  expect([status, body.error]).toEqual([200, undefined]);
  const [{ text, finish_reason: finish }] = body.choices as [{ text: string; finish_reason: string }];
  return { text, finish, tokens: (body.usage as { completion_tokens: number }).completion_tokens };
}

describe.each(ASKED)('%s', (path) => {
  it('takes the ends and the least length of an answer, and the typical mass', async () => {
    const generate = vi.spyOn(serving.model, 'generate');
    const asked = async (fields: object) => {
      expect(await refusal(path, fields)).toEqual([200, undefined]);
      return generate.mock.lastCall?.[0];
    };
    const own = serving.model.generationDefaults.eosTokenId as number[];
    expect(own.length).toBeGreaterThan(0);
    expect(await asked({ stop_token_ids: [40, 41] })).toMatchObject({ eosTokenId: [...own, 40, 41] });
    expect(await asked({ ignore_eos: true })).toMatchObject({ eosTokenId: [] });
    expect(await asked({ ignore_eos: true, stop_token_ids: [40] })).toMatchObject({ eosTokenId: [40] });
    expect(await asked({ min_tokens: 7 })).toMatchObject({ minNewTokens: 7, maxNewTokens: 12 });
    expect(await asked({ temperature: 1, typical_p: 0.9 })).toMatchObject({ typicalP: 0.9 });
    const plain = await asked({ stop_token_ids: [], ignore_eos: false, min_tokens: 0 });
    expect([plain?.eosTokenId, plain?.minNewTokens]).toEqual([undefined, undefined]);
  });

  it('refuses those that cannot be', async () => {
    expect(await refusal(path, { stop_token_ids: [40, 99999] })).toEqual([
      400,
      `stop_token_ids.1: there is no token 99999; the model's go from 0 to ${serving.model.vocabSize - 1}`,
    ]);
    expect(await refusal(path, { stop_token_ids: ['</s>'] })).toEqual([
      400,
      'stop_token_ids.0 is "</s>"; expected a number',
    ]);
    expect(await refusal(path, { min_tokens: 13 })).toEqual([
      400,
      'min_tokens: is 13, but this answer has at most 12 tokens; lower it, or raise that limit',
    ]);
    expect(await refusal(path, { include_stop_str_in_output: true })).toEqual([
      400,
      'include_stop_str_in_output: has no effect without stop; give that, or leave it out',
    ]);
  });

  it('refuses by name what is done elsewhere alone', async () => {
    for (const fields of [
      ...[{ use_beam_search: true }, { num_beams: 2 }, { length_penalty: 0.5 }, { best_of: 3 }],
      ...[{ repeat_penalty: 1.1 }, { mirostat: 2 }, { dynatemp_range: 0.5 }, { xtc_probability: 0.5 }],
      ...[{ dry_multiplier: 0.8 }, { top_n_sigma: 1 }, { no_repeat_ngram_size: 3 }, { min_new_tokens: 3 }],
      ...[{ allowed_token_ids: [1] }, { bad_words: ['a'] }, { logits_processors: ['x'] }],
      ...[{ truncate_prompt_tokens: 5 }, { prompt_logprobs: 0 }, { skip_special_tokens: false }],
      ...[{ return_token_ids: true }, { return_tokens_as_token_ids: true }, { thinking_token_budget: 4 }],
      ...[
        { include_reasoning: false },
        { separate_reasoning: false },
        { n_predict: 5 },
        { max_new_tokens: 5 },
      ],
      ...[{ guided_grammar: 'x' }, { structured_outputs: { choice: ['a'] } }, { ebnf: 'x' }, { regex: 'a' }],
      ...[{ mm_processor_kwargs: { size: 2 } }, { suffix: 'the end' }],
    ]) {
      const [name] = Object.keys(fields);
      expect(await refusal(path, fields)).toEqual([
        400,
        expect.stringMatching(new RegExp(`^${name}: is not taken`)),
      ]);
    }
  });

  it('lets pass what asks for nothing more, or for what changes no answer', async () => {
    const fields = {
      ...{ use_beam_search: false, length_penalty: 1, best_of: 1, n: 1, prompt_logprobs: null },
      ...{
        skip_special_tokens: true,
        spaces_between_special_tokens: true,
        include_stop_str_in_output: false,
      },
      ...{ stop_token_ids: null, allowed_token_ids: null, truncate_prompt_tokens: null, bad_words: [] },
      ...{ repeat_penalty: 1, mirostat: 0, dynatemp_range: 0, xtc_probability: 0, dry_multiplier: 0 },
      ...{ typical_p: 1, top_n_sigma: -1, include_reasoning: true, guided_json: null },
      ...{ cache_prompt: true, priority: 0, request_id: 'x', cache_salt: 'y', timings_per_token: true },
    };
    expect(await refusal(path, fields)).toEqual([200, undefined]);
  });
});

describe('an answer', () => {
  it('ends with a token that is asked to end it, and without it goes on past the model’s own ends', async () => {
    const whole = await complete({});
    const ids = serving.tokenizer.encode(whole.text);
    const end = ids[4] as number;
    const cut = await complete({ stop_token_ids: [end] });
    expect(cut).toEqual({
      text: serving.tokenizer.decode(ids.slice(0, ids.indexOf(end) + 1)),
      ...{ finish: 'stop', tokens: ids.indexOf(end) + 1 },
    });
    // The demo ends its sentence by itself.
    const own = await complete({ max_tokens: 60 });
    expect(own.finish).toBe('stop');
    const on = await complete({ max_tokens: 60, ignore_eos: true });
    expect([on.finish, on.tokens, on.text.startsWith(own.text)]).toEqual(['length', 60, true]);
  });

  it('goes on to its least number of tokens, whatever ends it elsewhere', async () => {
    const own = await complete({ max_tokens: 60 });
    const longer = await complete({ max_tokens: 60, min_tokens: own.tokens + 3 });
    expect(longer.tokens).toBeGreaterThanOrEqual(own.tokens + 3);
    const whole = await complete({});
    const stop = whole.text.slice(3, 5);
    expect((await complete({ stop })).text).toBe(whole.text.slice(0, whole.text.indexOf(stop)));
    expect(await complete({ stop, min_tokens: 12 })).toEqual(whole);
  });

  it('keeps the text that ends it where that is asked for', async () => {
    const { text } = await complete({});
    const stop = text.slice(6, 9);
    const cut = await complete({ stop, include_stop_str_in_output: true });
    expect(cut).toMatchObject({ text: text.slice(0, text.indexOf(stop) + stop.length), finish: 'stop' });
  });
});

describe('/v1/chat/completions', () => {
  const path = '/v1/chat/completions';

  it('takes whether the model reasons as Qwen’s own API does', async () => {
    const generate = vi.spyOn(serving.model, 'generate');
    for (const enable_thinking of [true, false]) {
      expect(await refusal(path, { enable_thinking })).toEqual([200, undefined]);
      expect(generate.mock.lastCall?.[0]).toMatchObject({ templateArguments: { enable_thinking } });
    }
  });

  it('takes where the prompt ends in vLLM’s words, unless they contradict each other', async () => {
    const goesOn = {
      messages: [...messages, { role: 'assistant', content: 'Once' }],
      continue_final_message: true,
    };
    expect(await refusal(path, { add_generation_prompt: true })).toEqual([200, undefined]);
    expect(await refusal(path, { ...goesOn, add_generation_prompt: false })).toEqual([200, undefined]);
    expect(await refusal(path, { add_generation_prompt: false })).toEqual([
      400,
      'add_generation_prompt: is false, but a conversation is answered here; leave it out, or give continue_final_message: true',
    ]);
    expect(await refusal(path, { ...goesOn, add_generation_prompt: true })).toEqual([
      400,
      'add_generation_prompt: is true, but a conversation is continued here; leave it out, or give continue_final_message: false',
    ]);
  });

  it.each([
    [path, { chat_template: '{{ 1 }}' }],
    [path, { documents: [{ text: 'x' }] }],
    [path, { echo: true }],
    [path, { reasoning: { effort: 'low' } }],
    [path, { thinking: { type: 'disabled' } }],
    [path, { system: 'Be brief.' }],
    [path, { web_search_options: { search_context_size: 'low' } }],
    ['/v1/responses', { enable_thinking: false }],
    ['/v1/messages', { enable_thinking: false }],
    ['/v1/messages', { mcp_servers: [{ url: 'x' }] }],
    ['/v1/completions', { enable_thinking: true }],
    ['/v1/completions', { chat_template_kwargs: { a: 1 } }],
  ])('%s has another word for %o', async (where, fields) => {
    const [name] = Object.keys(fields);
    expect(await refusal(where, fields)).toEqual([
      400,
      expect.stringMatching(new RegExp(`^${name}: is not taken here; `)),
    ]);
  });
});
