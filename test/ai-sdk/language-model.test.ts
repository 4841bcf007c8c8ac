import type { LanguageModelV3StreamPart } from '@ai-sdk/provider';
import { generateObject, generateText, Output, stepCountIs, streamText, type ToolSet, tool } from 'ai';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import * as z from 'zod';
import { languageModel } from '../../src/ai-sdk/index.ts';
import {
  AutoModelForCausalLM,
  AutoModelForImageTextToText,
  type CausalLM,
  type GenerateOutput,
  GenerationAbortError,
} from '../../src/index.ts';
import { DEMO_FOLDER, goldenModel } from '../helpers/goldens.ts';
import { scriptedModel } from '../helpers/scripted-model.ts';

const greedy = { temperature: 0, maxOutputTokens: 12, maxRetries: 0 };
const prompt = 'Tell me a story.';

/** What the first call of a watched `generate` has come to. */
const firstResult = async (generate: {
  mock: { results: readonly { value: unknown }[] };
}): Promise<unknown> => generate.mock.results[0]?.value;

describe('a model in the AI SDK', () => {
  let model: CausalLM;
  beforeAll(async () => {
    model = await AutoModelForCausalLM.fromPretrained(DEMO_FOLDER);
  });
  afterAll(() => model.dispose());

  it('answers as generate does, and says what that took', async () => {
    const said = await generateText({ model: languageModel(model), prompt, ...greedy });
    const messages = [{ role: 'user', content: prompt }];
    const output = await model.generate({ messages, maxNewTokens: 12, doSample: false });
    expect(said.text).toBe(output.text?.[0]?.trim());
    expect(said.finishReason).toBe('length');
    expect(said.usage).toMatchObject({
      inputTokens: output.stats.promptTokens,
      outputTokens: 12,
      outputTokenDetails: { textTokens: 12, reasoningTokens: 0 },
    });
  });

  it('says how much of a prompt an earlier answer had computed', async () => {
    const long = { model: languageModel(model), prompt: 'And it came to pass. '.repeat(40), ...greedy };
    const first = (await generateText(long)).usage.inputTokenDetails;
    const second = (await generateText(long)).usage.inputTokenDetails;
    expect(first.cacheReadTokens).toBe(0);
    // Whole blocks of 64.
    expect(second.cacheReadTokens).toBeGreaterThanOrEqual(64);
    expect(second.noCacheTokens).toBe((first.noCacheTokens ?? 0) - (second.cacheReadTokens ?? 0));
  });

  it('streams the same text piece by piece', async () => {
    const { text } = await generateText({ model: languageModel(model), prompt, ...greedy });
    const stream = streamText({ model: languageModel(model), prompt, ...greedy });
    const pieces: string[] = [];
    for await (const piece of stream.textStream) pieces.push(piece);
    expect(pieces.join('')).toBe(text);
    expect(pieces.length).toBeGreaterThan(4);
    expect(await stream.finishReason).toBe('length');
    expect((await stream.usage).outputTokens).toBe(12);
  });

  it('gives objects of a schema, from generateObject and as the output of generateText', async () => {
    const schema = z.object({ mood: z.enum(['good', 'bad']), words: z.array(z.string().max(4)).max(2) });
    const call = { model: languageModel(model), prompt, ...greedy, maxOutputTokens: 120 };
    const { object } = await generateObject({ ...call, schema });
    expect(schema.parse(object)).toEqual(object);
    const { output } = await generateText({ ...call, output: Output.object({ schema }) });
    expect(output).toEqual(object);
  });

  it('calls tools, and goes on from their results', async () => {
    const asked: unknown[] = [];
    const weather = tool({
      description: 'the weather',
      inputSchema: z.object({ city: z.string().max(8) }),
      execute: async (input: { city: string }) => {
        asked.push(input);
        return { sky: 'blue' };
      },
    });
    const { steps } = await generateText({
      model: languageModel(model),
      prompt: 'Weather?',
      tools: { weather } as unknown as ToolSet,
      providerOptions: { switchyard: { parallelToolCalls: false } },
      stopWhen: stepCountIs(2),
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? 'required' : 'none' }),
      ...greedy,
      maxOutputTokens: 250,
    });
    expect(steps.map(({ finishReason }) => finishReason)[0]).toBe('tool-calls');
    expect(asked).toEqual([{ city: expect.any(String) }]);
    expect(steps[0]?.toolResults[0]).toMatchObject({ toolName: 'weather', output: { sky: 'blue' } });
    expect(steps[1]?.toolCalls).toEqual([]);
    expect(steps[1]?.text).not.toBe('');
  });

  it('runs on the backend that a call asks for', async () => {
    const generate = vi.spyOn(model, 'generate');
    const experts = { switchyard: { expertsImplementation: 'eager', logprobs: 1 } };
    const said = await generateText({
      model: languageModel(model, { modelId: 'mine' }),
      prompt,
      ...greedy,
      providerOptions: experts,
    });
    expect(said.response.modelId).toBe('mine');
    expect(said.providerMetadata?.switchyard?.logprobs).toHaveLength(12);
    const { stats } = (await firstResult(generate)) as GenerateOutput;
    expect(Object.keys(stats.expertsCalls)).toEqual(['eager']);
  });

  it('stops at a stop sequence, which it leaves out', async () => {
    const whole = await generateText({ model: languageModel(model), prompt, ...greedy });
    const stop = whole.text.slice(4, 9);
    const cut = await generateText({
      model: languageModel(model),
      prompt,
      ...greedy,
      stopSequences: [stop],
    });
    expect(cut.text).toBe(whole.text.slice(0, whole.text.indexOf(stop)));
    expect(cut.finishReason).toBe('stop');
    expect(cut.providerMetadata?.switchyard?.stop).toBe(stop);
  });

  it('ends when it is aborted, whole or streaming, as the AI SDK expects', async () => {
    const endless = {
      model: languageModel(model),
      prompt,
      temperature: 0,
      maxRetries: 0,
      providerOptions: { switchyard: { eosTokenId: [] } },
    };
    const gone = AbortSignal.abort();
    await expect(generateText({ ...endless, abortSignal: gone })).rejects.toMatchObject({
      name: 'AbortError',
    });
    const abort = new AbortController();
    const stream = streamText({ ...endless, abortSignal: abort.signal });
    const types: string[] = [];
    for await (const part of stream.fullStream) {
      types.push(part.type);
      if (part.type === 'text-delta') abort.abort();
    }
    expect(types.at(-1)).toBe('abort');
    expect(types).not.toContain('error');
  });

  it('computes no further for a reader that leaves', async () => {
    const generate = vi.spyOn(model, 'generate');
    const { stream } = await languageModel(model).doStream({
      prompt: [{ role: 'user', content: [{ type: 'text', text: prompt }] }],
      providerOptions: { switchyard: { eosTokenId: [] } },
    });
    const reader = stream.getReader();
    await reader.read();
    await reader.cancel();
    const left = await firstResult(generate).catch((error: unknown) => error);
    expect(left).toBeInstanceOf(GenerationAbortError);
    expect((left as GenerationAbortError).partial.stats.newTokens).toBeLessThan(model.contextLength / 2);
  });

  it.each([
    [{ temprature: 1 }, /temprature/],
    [{ signal: 1 }, 'providerOptions.switchyard.signal: use abortSignal instead'],
  ])('refuses %j among its options', async (switchyard, message) => {
    const call = generateText({
      model: languageModel(model),
      prompt,
      ...greedy,
      providerOptions: { switchyard },
    });
    await expect(call).rejects.toThrow(message);
    const errors: unknown[] = [];
    const stream = streamText({
      model: languageModel(model),
      prompt,
      ...greedy,
      providerOptions: { switchyard },
      onError: ({ error }) => void errors.push(error),
    });
    await stream.consumeStream();
    expect(String(errors[0])).toMatch(message);
  });

  it('takes a model and nothing else', () => {
    expect(() => languageModel({} as CausalLM)).toThrow('expected a model that generates');
    expect(() => languageModel(model, { id: 'x' } as object)).toThrow('id');
  });
});

describe('a model that sees, in the AI SDK', () => {
  it('is shown pictures, as bytes and as data URLs', async () => {
    const model = await AutoModelForImageTextToText.fromPretrained(goldenModel('qwen3_vl_moe_e'));
    const png =
      'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
    const ask = async (image: string | Uint8Array) => {
      const { text, usage } = await generateText({
        model: languageModel(model),
        messages: [
          {
            role: 'user',
            content: [
              { type: 'image', image, mediaType: 'image/png' },
              { type: 'text', text: 'What is it?' },
            ],
          },
        ],
        ...greedy,
        maxOutputTokens: 4,
      });
      return [text, usage.inputTokens];
    };
    const bytes = await ask(new Uint8Array(Buffer.from(png, 'base64')));
    expect(await ask(`data:image/png;base64,${png}`)).toEqual(bytes);
    await model.dispose();
  });
});

describe('parts of an answer, in the AI SDK', () => {
  const thought = '<think>\nLet me see.\n</think>\n\nIt is blue.';
  const call = '<tool_call>\n{"name": "look", "arguments": {"at": "the sky"}}\n</tool_call>';
  const look = tool({ inputSchema: z.object({ at: z.string() }) });
  const tools = { look } as unknown as ToolSet;

  it('tells reasoning from text, and counts its tokens', async () => {
    const { model, tokenizer } = await scriptedModel(thought);
    const { text, reasoningText, usage } = await generateText({ model: languageModel(model), prompt });
    expect([reasoningText, text]).toEqual(['Let me see.', 'It is blue.']);
    expect(usage.outputTokenDetails.reasoningTokens).toBeGreaterThan(0);
    expect(usage.outputTokens).toBe(tokenizer.encode(thought).length);
    expect(usage.inputTokenDetails.cacheReadTokens).toBe(4);
  });

  it('streams reasoning, text and calls each as what they are', async () => {
    const { model } = await scriptedModel(`${thought}\n${call}`);
    const { stream } = await languageModel(model).doStream({
      prompt: [{ role: 'user', content: [{ type: 'text', text: prompt }] }],
      tools: [{ type: 'function', name: 'look', inputSchema: { type: 'object' } }],
    });
    const parts: LanguageModelV3StreamPart[] = [];
    for await (const part of stream) parts.push(part);
    const joined = (type: string) =>
      parts.map((part) => (part.type === type && 'delta' in part ? part.delta : '')).join('');
    expect(joined('reasoning-delta')).toBe('Let me see.');
    expect(joined('text-delta').trim()).toBe('It is blue.');
    expect(JSON.parse(joined('tool-input-delta'))).toEqual({ at: 'the sky' });
    const order = parts.map(({ type }) => type).filter((type) => !type.endsWith('-delta'));
    expect(order).toEqual([
      ...['stream-start', 'response-metadata', 'reasoning-start', 'reasoning-end', 'text-start', 'text-end'],
      ...['tool-input-start', 'tool-input-end', 'tool-call', 'finish'],
    ]);
    expect(parts.at(-1)).toMatchObject({ finishReason: { unified: 'tool-calls', raw: 'tool_calls' } });
  });

  it('makes no call of what the limit has cut off', async () => {
    for (const streams of [false, true]) {
      const { model } = await scriptedModel(call);
      const options = { model: languageModel(model), prompt, tools, maxOutputTokens: 20 };
      const result = streams ? streamText(options) : await generateText(options);
      expect(await result.finishReason).toBe('length');
      expect(await result.toolCalls).toEqual([]);
    }
  });

  it('hands reasoning, calls and results back as templates know them', async () => {
    const { model, asked } = await scriptedModel('Yes.');
    await generateText({
      model: languageModel(model),
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: [{ type: 'text', text: 'Is it blue?' }] },
        {
          role: 'assistant',
          content: [
            { type: 'reasoning', text: 'I look.' },
            { type: 'tool-call', toolCallId: 'a', toolName: 'look', input: { at: 'sky' } },
          ],
        },
        {
          role: 'tool',
          content: [
            { type: 'tool-result', toolCallId: 'a', toolName: 'look', output: { type: 'json', value: [1] } },
          ],
        },
      ],
    });
    expect(asked[0]?.messages).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Is it blue?' },
      {
        role: 'assistant',
        content: '',
        reasoning_content: 'I look.',
        tool_calls: [{ id: 'a', type: 'function', function: { name: 'look', arguments: { at: 'sky' } } }],
      },
      { role: 'tool', name: 'look', tool_call_id: 'a', content: '[1]' },
    ]);
  });

  it('warns of tools that only their providers run', async () => {
    const { model } = await scriptedModel('Hi.');
    const { warnings } = await languageModel(model).doGenerate({
      prompt: [{ role: 'user', content: [{ type: 'text', text: prompt }] }],
      tools: [{ type: 'provider', id: 'openai.web_search', name: 'web', args: {} }],
    });
    expect(warnings).toEqual([{ type: 'unsupported', feature: 'provider tool openai.web_search' }]);
  });
});
