import type { GenerateOptions } from '../generation/generate-options.ts';
import type { Cache } from './cache.ts';
import type { ExpertsImplementation } from './pretrained-model.ts';
import type { PromptOptions } from './prompt-options.ts';

/** Arguments of `generate`: what to continue (one of `inputIds`, `prompt` and `messages`), and how. */
export interface CausalLMGenerateOptions extends Omit<GenerateOptions, 'inputIds'>, PromptOptions {
  /** Prompts [rows, tokens], rows of one length, shorter prompts padded on the left. */
  inputIds?: GenerateOptions['inputIds'] | undefined;
  expertsImplementation?: ExpertsImplementation | undefined;
  /**
   * What the prompt, of one row, goes on from: it must begin with the cache's tokens, and only what follows them is computed. When the call has
   * ended well, the cache holds prompt and answer; after an error it is as it was.
   */
  cache?: Cache | undefined;
}
