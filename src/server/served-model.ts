import type { CausalLM, CausalLMGenerateOptions, ImageTextToText } from '../index.ts';
import type { AnswerPrompt } from './answer-request.ts';

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
  { model }: ServedModel,
  prompt: AnswerPrompt,
): Promise<Partial<CausalLMGenerateOptions>> {
  if ('ids' in prompt) return { inputIds: [prompt.ids] };
  if ('messages' in prompt) return prompt;
  // Long texts leave the event loop free.
  return { inputIds: [await (await model.tokenizer()).encodeAsync(prompt.text)] };
}
