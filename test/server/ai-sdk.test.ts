import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateObject, generateText, streamText, type ToolSet, tool } from 'ai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { type Serving, serveDemo } from './serving.ts';

describe('the AI SDK over HTTP', () => {
  let serving: Serving;
  const model = () =>
    createOpenAICompatible({
      name: 'switchyard',
      baseURL: `${serving.url}/v1`,
      supportsStructuredOutputs: true,
    })('demo');

  beforeAll(async () => {
    serving = await serveDemo();
  });
  afterAll(() => serving.stop());

  it('streams text, with its usage', async () => {
    const whole = await generateText({
      model: model(),
      prompt: 'Tell me a story.',
      maxOutputTokens: 12,
      temperature: 0,
    });
    const result = streamText({
      model: model(),
      prompt: 'Tell me a story.',
      maxOutputTokens: 12,
      temperature: 0,
    });
    let text = '';
    for await (const piece of result.textStream) text += piece;
    expect(text).toBe(whole.text);
    expect(whole.finishReason).toBe('length');
    expect(whole.usage.outputTokens).toBe(12);
  });

  it('calls tools', async () => {
    const weather = tool({ description: 'the weather', inputSchema: z.object({ city: z.string().max(8) }) });
    const { toolCalls, finishReason } = await generateText({
      model: model(),
      prompt: 'Weather?',
      tools: { weather } as unknown as ToolSet,
      providerOptions: { switchyard: { parallel_tool_calls: false } },
      toolChoice: 'required',
      temperature: 0,
      maxOutputTokens: 250,
    });
    expect(finishReason).toBe('tool-calls');
    expect(toolCalls[0]).toMatchObject({ toolName: 'weather', input: { city: expect.any(String) } });
  });

  it('gets objects of a schema', async () => {
    const schema = z.object({ mood: z.enum(['good', 'bad']), words: z.array(z.string().max(4)).max(2) });
    const { object } = await generateObject({
      model: model(),
      schema,
      prompt: 'How are you?',
      temperature: 0,
      maxOutputTokens: 120,
    });
    expect(schema.safeParse(object).success).toBe(true);
  });
});
