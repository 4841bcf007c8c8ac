import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { expect } from 'vitest';
import { AutoModelForCausalLM, AutoTokenizer } from '../../src/index.ts';
import { Random } from '../helpers/random.ts';
import { randomSchema } from '../structured/random-schema.ts';

const DEMO = join(import.meta.dirname, '../../configs/demo-model');

/**
 * Has the demo model answer by random schemas, several at once, each with its own seed and way of sampling: every answer must be JSON that
 * another validator finds valid.
 */
export async function answerByRandomSchemas(count: number, seed: number): Promise<void> {
  const [model, tokenizer] = await Promise.all([
    AutoModelForCausalLM.fromPretrained(DEMO),
    AutoTokenizer.fromPretrained(DEMO),
  ]);
  const ajv = new Ajv2020({ strict: false });
  (formats as unknown as (ajv: Ajv2020) => void)(ajv);
  const random = new Random(seed);
  const sampling = [{ doSample: false }, { temperature: 1 }, { topK: 0, temperature: 1.5 }, { topK: 3 }];
  const inputIds = [tokenizer.encode('Answer in JSON: ')];
  const answer = async (round: number) => {
    const schema = randomSchema(random);
    const output = await model.generate({
      inputIds,
      tokenizer,
      responseFormat: { type: 'json_schema', schema },
      maxNewTokens: 900,
      // Lone scalars in containers without bounds are what the demo model likes to write on and on.
      seed: round,
      ...sampling[round % sampling.length],
    });
    const text = tokenizer.decode(output.sequences[0]?.slice(inputIds[0]?.length) ?? [], {
      skipSpecialTokens: true,
    });
    const [finish] = output.finishReasons;
    expect(finish, `${JSON.stringify(schema)} made ${text}`).not.toBe('length');
    const value: unknown = JSON.parse(text);
    const validate = ajv.compile(schema);
    expect(
      validate(value),
      `${JSON.stringify(schema)} made ${text}: ${ajv.errorsText(validate.errors)}`,
    ).toBe(true);
  };
  try {
    for (let round = 0; round < count; round += 8)
      await Promise.all(Array.from({ length: Math.min(8, count - round) }, (_, i) => answer(round + i)));
  } finally {
    await model.dispose();
  }
}
