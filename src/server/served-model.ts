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

/** Options of `generate` for a prompt, one row. */
export async function promptOptions(
  served: ServedModel,
  prompt: AnswerPrompt,
): Promise<Partial<CausalLMGenerateOptions>> {
  return 'messages' in prompt ? prompt : { inputIds: [await promptIds(served, prompt)] };
}

/** The tokens of a prompt that is no conversation. */
export async function promptIds({ model }: ServedModel, prompt: TextPrompt): Promise<readonly number[]> {
  // Long texts leave the event loop free.
  return 'ids' in prompt ? prompt.ids : (await model.tokenizer()).encodeAsync(prompt.text);
}
