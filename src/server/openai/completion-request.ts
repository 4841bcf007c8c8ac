import * as z from 'zod';
import type { AnswerRequest, TextPrompt } from '../answer-request.ts';
import { badField } from '../api-error.ts';
import { ofOtherApis, refuseForeign } from '../foreign-fields.ts';
import type { Settings } from '../options.ts';
import { idList, listOf, maybe } from '../request.ts';
import { defined, type ModelLimits, samplingFields, samplingOptions, stopsOf } from '../sampling.ts';

const ids = idList(1);

/** A request of `/v1/completions`: one text or row of ids, or several. */
export const completionSchema = z.looseObject({
  ...samplingFields,
  model: maybe(z.string()),
  prompt: z.union([z.string(), ids, listOf(z.string(), { least: 1 }), listOf(ids, { least: 1 })]),
  /** 0 for a prompt that is only scored: with `echo`. */
  max_tokens: maybe(z.int().min(0)),
  n: maybe(z.int().min(1)),
  stream: maybe(z.boolean()),
  stream_options: maybe(z.looseObject({ include_usage: maybe(z.boolean()) })),
  logprobs: maybe(z.int().min(0).max(20)),
  echo: maybe(z.boolean()),
  suffix: maybe(z.string()),
  best_of: maybe(z.int()),
  return_routed_experts: maybe(z.boolean()),
});
/** What of other APIs a request may not have. */
const FOREIGN = {
  ...ofOtherApis('response_format to /v1/chat/completions', 'max_tokens'),
  ...Object.fromEntries(
    [
      ...['response_format', 'tools', 'top_logprobs', 'chat_template_kwargs', 'continue_final_message'],
      ...['enable_thinking', 'reasoning_effort'],
    ].map((name) => [name, '/v1/chat/completions takes it']),
  ),
  n_probs: 'give logprobs',
  max_completion_tokens: 'give max_tokens',
  max_output_tokens: 'give max_tokens',
  stop_sequences: 'give stop',
};

export type CompletionRequest = z.output<typeof completionSchema>;

/** New tokens where a request does not say, as OpenAI has it. */
const DEFAULT_TOKENS = 16;

/**
 * What a request of `/v1/completions` asks of a model: `n` answers to each prompt, in their order; none where prompts are only scored.
 * @throws ApiError for what cannot be done
 */
export function completionAnswers(
  body: CompletionRequest,
  n: number,
  settings: Settings,
  limits: ModelLimits,
): AnswerRequest[] {
  refuseForeign(body, FOREIGN);
  if (body.suffix) throw badField('suffix', 'is not taken: the models served here write forwards only');
  if (body.best_of !== undefined && body.best_of !== n)
    throw badField('best_of', 'is not taken; ask for n answers and choose');
  const maxTokens = body.max_tokens ?? DEFAULT_TOKENS;
  if (maxTokens === 0 && !body.echo)
    throw badField('max_tokens', 'is 0, which has a meaning only with echo: true');
  if (maxTokens === 0) return [];
  return promptsOf(body.prompt).flatMap((prompt) =>
    Array.from({ length: n }, (_, choice) => ({
      prompt,
      tools: undefined,
      ...stopsOf(body),
      thinkingBudget: body.thinking_budget,
      options: {
        ...samplingOptions(body, maxTokens, settings, limits, choice),
        ...defined({ logprobs: body.logprobs, returnRoutedExperts: body.return_routed_experts }),
      },
    })),
  );
}

/** The prompts of a request, checked. */
export function promptsOf(prompt: CompletionRequest['prompt']): TextPrompt[] {
  if (typeof prompt === 'string') return [textPrompt(prompt)];
  if (typeof prompt[0] === 'number') return [{ ids: prompt as number[] }];
  return (prompt as (string | number[])[]).map((one) =>
    typeof one === 'string' ? textPrompt(one) : { ids: one },
  );
}

function textPrompt(text: string): TextPrompt {
  if (text === '') throw badField('prompt', 'is empty; give it at least one token');
  return { text };
}
