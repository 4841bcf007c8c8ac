import type { CausalLMGenerateOptions, ChatMessage } from '../index.ts';

/** A text or ids to continue. */
export type TextPrompt = { readonly text: string } | { readonly ids: readonly number[] };

/** A conversation to answer, or what is to be continued. */
export type AnswerPrompt =
  | {
      readonly messages: readonly ChatMessage[];
      readonly continueFinalMessage: boolean;
      readonly templateArguments: Readonly<Record<string, unknown>>;
    }
  | TextPrompt;

/** What is asked of a model, whatever API asked it. */
export interface AnswerRequest {
  readonly prompt: AnswerPrompt;
  /** Functions that the prompt offers. */
  readonly tools: readonly unknown[] | undefined;
  /** Texts that end the answer; reasoning may hold them. They are cut. Undefined: those of generation_config.json. */
  readonly stops?: readonly string[] | undefined;
  /** Whether the one that has ended the answer stays in its text. */
  readonly keepsStop?: boolean | undefined;
  /** Most tokens of reasoning, for a model that reasons. */
  readonly thinkingBudget?: number | undefined;
  /** What else `generate` takes. */
  readonly options: Partial<CausalLMGenerateOptions>;
}
