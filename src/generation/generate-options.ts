import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { AnswerOptions } from './answer-options.ts';
import type { ConstraintFactory } from './constraint.ts';
import type { GenerationParameters } from './parameters.ts';
import type { TokenRows } from './prompt.ts';
import type { Streamer } from './streamers.ts';

/** Arguments of `generate`. */
export interface GenerateOptions extends GenerationParameters, AnswerOptions {
  /** Prompts [rows, tokens], rows of one length, shorter prompts padded on the left. */
  inputIds: TokenRows;
  /** [rows, tokens]: 1 for a token, 0 for padding. Default: no padding. */
  attentionMask?: TokenRows | undefined;
  /** With `guidanceScale`: what the answer is to lead away from, one list of ids, or one for each row, without padding. */
  negativePromptIds?: TokenRows | undefined;
  /** Parameters that stand between those of the call and generation_config.json. */
  generationConfig?: GenerationParameters | undefined;
  /**
   * Receives the tokens of a single row as they come. A function gets the new text, piece by piece, without special tokens; a promise it
   * returns is awaited. It needs `tokenizer`.
   */
  streamer?: Streamer | ((text: string) => unknown) | undefined;
  /** Ends the generation with an `AbortError` that carries what was generated. */
  signal?: AbortSignal | undefined;
  /** Says for each row, by its index, which tokens may come. A constraint is a row's own and used once. */
  constraint?: ConstraintFactory | undefined;
  /** For `stopStrings`, `responseFormat` and `tools`. */
  tokenizer?: Tokenizer | undefined;
  /** Pins the experts backend of this call; without it every step reads the model's setting as it then is. */
  expertsImplementation?: unknown;
  /**
   * Whether to return which experts each token goes to. The whole prompt is computed then, also what an earlier call has. Not with beams.
   * Default false
   */
  returnRoutedExperts?: boolean | undefined;
  /** What the only row goes on from, and where what is computed is kept. */
  cache?: unknown;
}
