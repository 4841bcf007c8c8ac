import {
  AIMessage,
  type AIMessageChunk,
  HumanMessage,
  SystemMessage,
  ToolMessage,
} from '@langchain/core/messages';
import type { ToolCall } from '@langchain/core/messages/tool';
import { StringOutputParser } from '@langchain/core/output_parsers';
import { ChatPromptTemplate } from '@langchain/core/prompts';
import { tool } from '@langchain/core/tools';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import * as z from 'zod';
import { AutoModelForCausalLM, type CausalLM, GenerationAbortError } from '../../src/index.ts';
import { ChatSwitchyard } from '../../src/langchain/index.ts';
import { DEMO_FOLDER } from '../helpers/goldens.ts';
import { scriptedModel } from '../helpers/scripted-model.ts';

const prompt = 'Tell me a story.';
const weather = tool(async ({ city }: { city: string }) => `It rains in ${city}.`, {
  name: 'weather',
  description: 'the weather',
  schema: z.object({ city: z.string().max(8) }),
});

describe('a model in LangChain', () => {
  let model: CausalLM;
  let chat: ChatSwitchyard;
  beforeAll(async () => {
    model = await AutoModelForCausalLM.fromPretrained(DEMO_FOLDER);
    chat = new ChatSwitchyard({ model, temperature: 0, maxTokens: 12 });
  });
  afterAll(() => model.dispose());

  it('answers as generate does, and says what that took', async () => {
    const said = await chat.invoke(prompt);
    const messages = [{ role: 'user', content: prompt }];
    const output = await model.generate({ messages, maxNewTokens: 12, doSample: false });
    expect(said.text).toBe(output.text?.[0]?.trim());
    expect(said.response_metadata).toMatchObject({ finish_reason: 'length', model_name: DEMO_FOLDER });
    expect(said.usage_metadata).toEqual({
      input_tokens: output.stats.promptTokens,
      output_tokens: 12,
      total_tokens: output.stats.promptTokens + 12,
      input_token_details: { cache_read: 0 },
      output_token_details: { reasoning: 0 },
    });
  });

  it('streams the same text, whose pieces add up to the message', async () => {
    const pieces: AIMessageChunk[] = [];
    for await (const piece of await chat.stream(prompt)) pieces.push(piece);
    const whole = pieces.reduce((sum, piece) => sum.concat(piece));
    const said = await chat.invoke(prompt);
    expect(whole.text).toBe(said.text);
    expect(whole.usage_metadata).toEqual(said.usage_metadata);
    expect(pieces.length).toBeGreaterThan(5);
  });

  it('stands in a chain, and answers a batch in shared passes', async () => {
    const chain = ChatPromptTemplate.fromMessages([
      ['system', 'You know {subject}.'],
      ['human', 'Speak of {subject}.'],
    ])
      .pipe(chat)
      .pipe(new StringOutputParser());
    const subjects = ['Moses', 'David', 'Aaron'].map((subject) => ({ subject }));
    const alone: string[] = [];
    for (const subject of subjects) alone.push(await chain.invoke(subject));
    expect(await chain.batch(subjects)).toEqual(alone);
  });

  it('calls tools that are bound, and goes on from their results', async () => {
    const asking = chat.bindTools([weather], { tool_choice: 'any', maxTokens: 250 });
    const question = new HumanMessage('Weather?');
    const options = { options: { parallelToolCalls: false } };
    const called = await asking.invoke([question], options);
    expect(called.response_metadata.finish_reason).toBe('tool_calls');
    const [call] = called.tool_calls ?? [];
    expect(call).toMatchObject({ name: 'weather', args: { city: expect.any(String) }, type: 'tool_call' });
    const result = (await weather.invoke(call as ToolCall)) as ToolMessage;
    expect(result.content).toMatch(/^It rains in /);
    const said = await chat.invoke([question, called, result]);
    expect(said.text).not.toBe('');
    const chunks = await asking.stream([question], options);
    let whole: AIMessageChunk | undefined;
    for await (const piece of chunks) whole = whole ? whole.concat(piece) : piece;
    expect(whole?.tool_calls?.[0]).toMatchObject({ name: 'weather', args: call?.args });
  });

  it('answers by a schema, as text or as a call', async () => {
    const schema = z.object({ mood: z.enum(['good', 'bad']), words: z.array(z.string().max(4)).max(2) });
    const roomy = new ChatSwitchyard({ model, temperature: 0, maxTokens: 200 });
    const parsed = await roomy.withStructuredOutput(schema).invoke('How are you?');
    expect(schema.parse(parsed)).toEqual(parsed);
    const json = z.toJSONSchema(schema) as Record<string, unknown>;
    expect(await roomy.withStructuredOutput(json).invoke('How are you?')).toEqual(parsed);
    const feeling = z.object({ mood: z.enum(['good', 'bad']) });
    const { raw, parsed: called } = await roomy
      .withStructuredOutput(feeling, { method: 'functionCalling', name: 'feel', includeRaw: true })
      .invoke('How are you?');
    expect((raw as AIMessage).tool_calls?.[0]?.name).toBe('feel');
    expect(feeling.parse(called)).toEqual(called);
    expect(() => roomy.withStructuredOutput(schema, { method: 'wish' })).toThrow('"wish"');
  });

  it('ends when it is aborted, and leaves nothing running', async () => {
    const endless = new ChatSwitchyard({ model, temperature: 0, options: { eosTokenId: [] } });
    const generate = vi.spyOn(model, 'generate');
    await expect(endless.invoke(prompt, { signal: AbortSignal.abort() })).rejects.toThrow();
    const abort = new AbortController();
    const read = async () => {
      for await (const piece of await endless.stream(prompt, { signal: abort.signal }))
        if (piece.text !== '') abort.abort();
    };
    await expect(read()).rejects.toThrow(/abort/i);
    const last = generate.mock.results.at(-1) as { value: Promise<unknown> };
    const left = await last.value.catch((error: unknown) => error);
    expect(left).toBeInstanceOf(GenerationAbortError);
    expect((left as GenerationAbortError).partial.stats.newTokens).toBeLessThan(model.contextLength / 2);
  });

  it('stops at a text, and runs on the backend that a call asks for', async () => {
    const { text } = await chat.invoke(prompt);
    const generate = vi.spyOn(model, 'generate');
    const stop = text.slice(4, 9);
    const cut = await chat.invoke(prompt, { stop: [stop], options: { expertsImplementation: 'eager' } });
    expect(cut.text).toBe(text.slice(0, text.indexOf(stop)));
    expect(cut.response_metadata).toMatchObject({ finish_reason: 'stop', stop });
    expect(generate.mock.calls[0]?.[0]).toMatchObject({ expertsImplementation: 'eager', maxNewTokens: 12 });
  });

  it('refuses what is no model, no choice and no option', async () => {
    expect(() => new ChatSwitchyard({ model: {} as CausalLM })).toThrow('expected a model that generates');
    const choice = chat.invoke(prompt, { tools: [weather], tool_choice: { type: 'wish' } });
    await expect(choice).rejects.toThrow('"any"');
    await expect(chat.invoke(prompt, { options: { temprature: 1 } as object })).rejects.toThrow('temprature');
  });
});

describe('messages of LangChain', () => {
  it('go to the template as it knows them, with reasoning, calls and pictures', async () => {
    const { model, asked } = await scriptedModel('Yes.');
    await new ChatSwitchyard({ model }).invoke([
      new SystemMessage('Be brief.'),
      new HumanMessage({ content: [{ type: 'text', text: 'Is it blue?' }] }),
      new AIMessage({
        content: '',
        additional_kwargs: { reasoning_content: 'I look.' },
        tool_calls: [{ id: 'a', name: 'look', args: { at: 'sky' } }],
      }),
      new ToolMessage({ content: 'blue', tool_call_id: 'a', name: 'look' }),
    ]);
    expect(asked[0]?.messages).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Is it blue?' },
      {
        role: 'assistant',
        content: '',
        reasoning_content: 'I look.',
        tool_calls: [{ id: 'a', type: 'function', function: { name: 'look', arguments: { at: 'sky' } } }],
      },
      { role: 'tool', content: 'blue', tool_call_id: 'a', name: 'look' },
    ]);
  });

  it('may hold pictures in each of the ways that LangChain has', async () => {
    const { model, asked } = await scriptedModel('Yes.');
    const url = 'data:image/png;base64,AAAA';
    const content = [
      { type: 'image_url', image_url: { url } },
      { type: 'image', url },
      { type: 'image', data: 'AAAA', mimeType: 'image/png' },
      { type: 'text', text: 'What is it?' },
    ];
    await new ChatSwitchyard({ model }).invoke([new HumanMessage({ content })]).catch(() => {});
    expect(asked[0]?.messages?.[0]?.content).toEqual([
      { type: 'image', image: url },
      { type: 'image', image: url },
      { type: 'image', image: Buffer.from('AAAA', 'base64') },
      { type: 'text', text: 'What is it?' },
    ]);
    const sound = new HumanMessage({ content: [{ type: 'audio', data: 'AAAA' }] });
    await expect(new ChatSwitchyard({ model }).invoke([sound])).rejects.toThrow(
      'messages[0].content[0].type',
    );
  });

  it('come back with reasoning and calls apart', async () => {
    const call = '<tool_call>\n{"name": "look", "arguments": {"at": "the sky"}}\n</tool_call>';
    const answer = `<think>\nLet me see.\n</think>\n\nI look.\n${call}`;
    const look = {
      type: 'function' as const,
      function: { name: 'look', parameters: { type: 'object' as const } },
    };
    const { model } = await scriptedModel(answer, answer, call);
    const chat = new ChatSwitchyard({ model });
    const said = await chat.invoke('?', { tools: [look] });
    expect(said.additional_kwargs.reasoning_content).toBe('Let me see.');
    expect(said.text.trim()).toBe('I look.');
    expect(said.tool_calls).toEqual([
      { id: expect.any(String), name: 'look', args: { at: 'the sky' }, type: 'tool_call' },
    ]);
    let whole: AIMessageChunk | undefined;
    for await (const piece of await chat.stream('?', { tools: [look] }))
      whole = whole ? whole.concat(piece) : piece;
    expect(whole?.additional_kwargs.reasoning_content).toBe('Let me see.');
    expect(whole?.tool_calls).toMatchObject([{ name: 'look', args: { at: 'the sky' } }]);
    expect(whole?.usage_metadata).toMatchObject({
      output_token_details: { reasoning: expect.any(Number) },
    });

    const cut = await chat.invoke('?', { tools: [look], maxTokens: 20 });
    expect(cut.tool_calls).toEqual([]);
    expect(cut.response_metadata.finish_reason).toBe('length');
  });
});
