import type { CausalLM, CausalLMGenerateOptions, ImageTextToText } from '../index.ts';
import type { AnswerPrompt, TextPrompt } from './answer-request.ts';

/** A model as a server hands it out. */
export interface ServedModel {
  /** The name by which clients ask for it. */
  readonly name: string;
  readonly model: CausalLM | ImageTextToText;
  /** When it was loaded, in seconds since 1970. */
  readonly created: number;
}

/** Settings that hold only where tokens are drawn. */
const SAMPLING = /^(temperature|top[HKP]|minP|typicalP|epsilonCutoff|etaCutoff)$/;

/** Looks at all that a request makes use of which says nothing itself. @throws ConfigError for what will not do */
export function checkDefaults({ generationDefaults: defaults }: ServedModel['model']): void {
  for (const name of Object.keys(defaults))
    if (defaults.doSample || !SAMPLING.test(name)) Reflect.get(defaults, name);
}

/** Options of `generate` for a prompt, one row. */
export function promptOptions(prompt: AnswerPrompt): Partial<CausalLMGenerateOptions> {
  if ('messages' in prompt) return prompt;
  return 'ids' in prompt ? { inputIds: [prompt.ids] } : { prompt: prompt.text };
}

/** The tokens of a prompt that is no conversation. */
export async function promptIds({ model }: ServedModel, prompt: TextPrompt): Promise<readonly number[]> {
  // Long texts leave the event loop free.
  return 'ids' in prompt ? prompt.ids : (await model.tokenizer()).encodeAsync(prompt.text);
}
