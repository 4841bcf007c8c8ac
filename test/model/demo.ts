/** The bundled demo and its tokenizer, for tests of what a model does with text. */
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  type CausalLM,
  DEMO_MODEL,
  type Tokenizer,
} from '../../src/index.ts';

export const GREEDY = { doSample: false, maxNewTokens: 8 };
export const QUESTION = [{ role: 'user', content: 'Speak of Moses.' }];

export interface Demo {
  /** To be disposed of by who opened it. */
  readonly model: CausalLM;
  /** Another than the model's own. */
  readonly tokenizer: Tokenizer;
}

export async function openDemo(): Promise<Demo> {
  const model = await AutoModelForCausalLM.fromPretrained(DEMO_MODEL);
  return { model, tokenizer: await AutoTokenizer.fromPretrained(DEMO_MODEL) };
}

/** The continuation of rows of ids, as text. */
export async function continued(
  { model, tokenizer }: Demo,
  inputs: { inputIds: number[][]; attentionMask: number[][] },
): Promise<string[]> {
  const { sequences } = await model.generate({ ...inputs, ...GREEDY });
  const width = inputs.inputIds[0]?.length;
  return sequences.map((row) => tokenizer.decode(row.slice(width), { skipSpecialTokens: true }));
}
