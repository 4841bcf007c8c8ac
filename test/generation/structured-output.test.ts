import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { answerConstraint } from '../../src/generation/answer-options.ts';
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  type CausalLM,
  type ConstraintFactory,
  type CausalLMGenerateOptions as GenerateOptions,
  type Tokenizer,
} from '../../src/index.ts';
import { answerByRandomSchemas } from './structured-output.ts';

const DEMO = join(import.meta.dirname, '../../configs/demo-model');

describe('an answer in a format', () => {
  let model: CausalLM;
  let tokenizer: Tokenizer;

  beforeAll(async () => {
    [model, tokenizer] = await Promise.all([
      AutoModelForCausalLM.fromPretrained(DEMO),
      AutoTokenizer.fromPretrained(DEMO),
    ]);
  });
  afterAll(() => model.dispose());

  const answer = async (options: Partial<GenerateOptions>) => {
    const inputIds = [tokenizer.encode('Once upon a time')];
    const output = await model.generate({
      inputIds,
      tokenizer,
      maxNewTokens: 300,
      doSample: false,
      ...options,
    });
    const rows = output.sequences.map((row) => row.slice(inputIds[0]?.length));
    return { output, texts: tokenizer.batchDecode(rows, { skipSpecialTokens: true }) };
  };

  it('is valid by random schemas', async () => {
    await expect(answerByRandomSchemas(24, 1)).resolves.toBeUndefined();
  });

  it('follows a schema of zod, in every row by itself', async () => {
    const schema = z.object({
      name: z.string().max(12),
      age: z.int().min(1).max(120),
      tags: z.array(z.enum(['a', 'b'])).max(3),
    });
    const { texts } = await answer({
      responseFormat: { type: 'json_schema', schema },
      doSample: true,
      numReturnSequences: 3,
      seed: 4,
    });
    for (const text of texts) schema.parse(JSON.parse(text));
    expect(new Set(texts).size).toBeGreaterThan(1);
  });

  it('ends where nothing may follow, also without an end token', async () => {
    const responseFormat = { type: 'json_schema', schema: { enum: ['yes', 'no'] } } as const;
    const { texts, output } = await answer({ responseFormat, eosTokenId: [] });
    expect(['"yes"', '"no"']).toContain(texts[0]);
    expect(output.finishReasons).toEqual(['stop']);
  });

  it('is what a regular expression matches', async () => {
    const { texts } = await answer({ responseFormat: { type: 'regex', pattern: '(?:[a-z]{3} ){2}\\d{4}' } });
    expect(texts[0]).toMatch(/^(?:[a-z]{3} ){2}\d{4}$/);
  });

  it('is a call where one is required, which can be taken apart', async () => {
    const parameters = {
      type: 'object',
      properties: {
        city: { type: 'string', maxLength: 9 },
        days: { type: 'integer', minimum: 1, maximum: 9 },
      },
      required: ['city', 'days'],
    };
    const tools = [{ type: 'function', function: { name: 'weather', parameters } }];
    const { texts } = await answer({ tools, toolChoice: 'required', parallelToolCalls: false });
    const { tool_calls: calls, content } = tokenizer.parseResponse(texts[0] ?? '', { tools });
    expect(content).toBe('');
    expect(calls).toMatchObject([
      { function: { name: 'weather', arguments: { city: expect.any(String), days: expect.any(Number) } } },
    ]);
  });

  it.each([{ doSample: false }, { temperature: 1, seed: 3 }, { topK: 0, temperature: 1.5, seed: 4 }])(
    'takes text that has to stand in it in together, which changes no token: %o',
    async (sampling) => {
      const names = ['description', 'customer_number', 'is_available'];
      const schema = {
        type: 'object',
        properties: Object.fromEntries(names.map((name) => [name, { enum: [true, 'perhaps', 12] }])),
        required: names,
        additionalProperties: false,
      };
      const options = {
        responseFormat: { type: 'json_schema', schema } as const,
        eosTokenId: [],
        ...sampling,
      };
      const prompts = [tokenizer.encode('Once upon a time')];
      const make = answerConstraint(options, tokenizer, prompts, [], model.vocabSize);
      // The same constraint, which says nothing of what comes.
      const constraint: ConstraintFactory = (row) => {
        const own = (make as ConstraintFactory)(row);
        return {
          allows: (id) => own.allows(id),
          advance: (id) => own.advance(id),
          get isComplete() {
            return own.isComplete;
          },
        };
      };
      const [together, alone] = [
        await answer(options),
        await answer({ eosTokenId: [], ...sampling, constraint }),
      ];
      expect(together.output.sequences).toEqual(alone.output.sequences);
      const { newTokens, drafts } = together.output.stats;
      expect(alone.output.stats.drafts).toBeUndefined();
      expect(drafts?.accepted).toBeGreaterThan(newTokens / 3);
      const calls = (one: typeof alone) =>
        Object.values(one.output.stats.expertsCalls).reduce((a, b) => a + b);
      expect(calls(together) / calls(alone)).toBeCloseTo(1 - (drafts?.accepted ?? 0) / newTokens, 1);
    },
  );

  it('is held to a schema with the model’s own tokenizer, too', async () => {
    const own = await answer({ responseFormat: { type: 'json_object' }, tokenizer: undefined });
    expect(own.texts).toEqual((await answer({ responseFormat: { type: 'json_object' } })).texts);
  });

  it('costs nothing where it asks for nothing', async () => {
    const free = await answer({ maxNewTokens: 12 });
    const asked = await answer({
      maxNewTokens: 12,
      responseFormat: { type: 'text' },
      toolChoice: 'none',
      tools: [{ name: 'f' }],
    });
    expect(asked.texts).toEqual(free.texts);
  });

  it.each<[Partial<GenerateOptions>, string]>([
    [{ responseFormat: { type: 'json' } as never }, 'responseFormat is {"type":"json"}; expected'],
    [
      { responseFormat: { type: 'json_schema', schema: { properties: { a: { not: {} } } } } },
      '#/properties/a/not',
    ],
    [
      { responseFormat: { type: 'json_schema', schema: z.object({ a: z.bigint() }) } },
      'the schema of zod has no JSON schema',
    ],
    [{ responseFormat: { type: 'regex', pattern: 'a(?=b)' } }, 'looks ahead'],
    [{ tools: [{ function: {} }] }, 'tools[0].function.name is undefined'],
    [{ toolChoice: 'required' }, 'there are no tools'],
    [
      { tools: [{ name: 'f' }], toolChoice: { name: 'g' } },
      'toolChoice names "g", which is none of the tools: f',
    ],
    [
      {
        responseFormat: { type: 'json_object' },
        constraint: () => ({ allows: () => true, advance: () => {}, isComplete: false }),
      },
      'excludes',
    ],
  ])('%j is refused', async (options, message) => {
    await expect(answer(options)).rejects.toThrow(message);
  });
});
