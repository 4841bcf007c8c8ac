import type { CausalLMGenerateOptions, ChatMessage } from '../index.ts';

/** A conversation to answer, or a text or ids to continue. */
export type AnswerPrompt =
  | {
      readonly messages: readonly ChatMessage[];
      readonly continueFinalMessage: boolean;
      readonly templateArguments: Readonly<Record<string, unknown>>;
    }
  | { readonly text: string }
  | { readonly ids: readonly number[] };

/** What is asked of a model, whatever API asked it. */
export interface AnswerRequest {
  readonly prompt: AnswerPrompt;
  /** Functions that the prompt offers. */
  readonly tools: readonly unknown[] | undefined;
  /** Texts that end the answer; reasoning may hold them. They are cut. */
  readonly stops: readonly string[];
  /** What else `generate` takes. */
  readonly options: Partial<CausalLMGenerateOptions>;
}
