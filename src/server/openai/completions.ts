import * as z from 'zod';
import type { TokenLogprobs } from '../../index.ts';
import { type AnswerEnd, wholeAnswer } from '../answer.ts';
import type { AnswerPrompt, AnswerRequest } from '../answer-request.ts';
import type { AnswerEvents } from '../api.ts';
import { badField } from '../api-error.ts';
import { together } from '../async-queue.ts';
import type { ServerEvent } from '../event-stream.ts';
import type { Settings } from '../options.ts';
import { maybe } from '../request.ts';
import { defined, samplingFields, samplingOptions, stopsOf } from '../sampling.ts';
import { newHead, usageOf } from './chat-completions.ts';
import { routedExpertsOf } from './routed-experts.ts';

const ids = z.array(z.int().min(0)).min(1);

/** A request of `/v1/completions`: one text or row of ids, or several. */
export const completionSchema = z.looseObject({
  ...samplingFields,
  model: maybe(z.string()),
  prompt: z.union([z.string(), ids, z.array(z.string()).min(1), z.array(ids).min(1)]),
  max_tokens: maybe(z.int().min(1)),
  n: maybe(z.int().min(1)),
  stream: maybe(z.boolean()),
  stream_options: maybe(z.looseObject({ include_usage: maybe(z.boolean()) })),
  logprobs: maybe(z.int().min(0).max(20)),
  echo: maybe(z.boolean()),
  suffix: maybe(z.string()),
  best_of: maybe(z.int()),
  return_routed_experts: maybe(z.boolean()),
});
export type CompletionRequest = z.output<typeof completionSchema>;

/** New tokens where a request does not say, as OpenAI has it. */
const DEFAULT_TOKENS = 16;

/**
 * What a request of `/v1/completions` asks of a model: `n` answers to each prompt, in their order.
 * @throws ApiError for what cannot be done
 */
export function completionAnswers(
  body: CompletionRequest,
  n: number,
  settings: Settings,
  contextLength: number,
): AnswerRequest[] {
  if (body.suffix) throw badField('suffix', 'is not taken: the models served here write forwards only');
  if (body.echo) throw badField('echo', 'is not taken; send the prompt to /tokenize to see its tokens');
  if (body.best_of !== undefined && body.best_of !== n)
    throw badField('best_of', 'is not taken; ask for n answers and choose');
  const maxTokens = body.max_tokens ?? DEFAULT_TOKENS;
  return promptsOf(body.prompt).flatMap((prompt) =>
    Array.from({ length: n }, (_, choice) => ({
      prompt,
      tools: undefined,
      stops: stopsOf(body),
      options: {
        ...samplingOptions(body, maxTokens, settings, contextLength, choice),
        ...defined({ logprobs: body.logprobs, returnRoutedExperts: body.return_routed_experts }),
      },
    })),
  );
}

function promptsOf(prompt: CompletionRequest['prompt']): AnswerPrompt[] {
  if (typeof prompt === 'string') return [textPrompt(prompt)];
  if (typeof prompt[0] === 'number') return [{ ids: prompt as number[] }];
  return (prompt as (string | number[])[]).map((one) =>
    typeof one === 'string' ? textPrompt(one) : { ids: one },
  );
}

function textPrompt(text: string): AnswerPrompt {
  if (text === '') throw badField('prompt', 'is empty; give it at least one token');
  return { text };
}

export async function completion(model: string, answers: readonly AnswerEvents[], n: number) {
  const ends = await Promise.all(answers.map(wholeAnswer));
  return {
    ...newHead(model, 'cmpl'),
    object: 'text_completion',
    choices: ends.map((end, index) => ({
      ...choiceOf(index, end.message.content, end.finish, end.logprobs),
      ...routedExpertsOf(end),
    })),
    usage: usageOfPrompts(ends, n),
  };
}

function choiceOf(
  index: number,
  text: string,
  finish: string | null,
  logprobs: readonly TokenLogprobs[] | undefined,
) {
  return { index, text, finish_reason: finish, logprobs: logprobsOf(logprobs) };
}

/** Answers to one prompt share it. */
function usageOfPrompts(ends: readonly AnswerEnd[], n: number) {
  const usage = usageOf(ends);
  const first = ends.filter((_, i) => i % n === 0);
  const prompt = first.reduce((sum, end) => sum + end.usage.promptTokens, 0);
  const cached = first.reduce((sum, end) => sum + end.usage.cachedTokens, 0);
  return {
    ...usage,
    prompt_tokens: prompt,
    total_tokens: prompt + usage.completion_tokens,
    prompt_tokens_details: { cached_tokens: cached },
  };
}

function logprobsOf(logprobs: readonly TokenLogprobs[] | undefined) {
  if (!logprobs) return null;
  const texts = logprobs.map(({ text }) => text ?? '');
  let offset = 0;
  return {
    tokens: texts,
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(({ top }) =>
      Object.fromEntries(top.map(({ text, logprob }) => [text ?? '', logprob])),
    ),
    text_offset: texts.map((text) => {
      offset += text.length;
      return offset - text.length;
    }),
  };
}

export async function* completionChunks(
  model: string,
  answers: readonly AnswerEvents[],
  n: number,
  { stream_options: options }: CompletionRequest,
): AsyncGenerator<ServerEvent, void, undefined> {
  const head = { ...newHead(model, 'cmpl'), object: 'text_completion' };
  const ends: AnswerEnd[] = [];
  const numbered = answers.map(async function* (events, index) {
    for await (const event of events) yield { index, event };
  });
  for await (const { index, event } of together(numbered)) {
    if (event.type === 'content')
      yield { data: { ...head, choices: [choiceOf(index, event.text, null, undefined)] } };
    if (event.type !== 'end') continue;
    ends[index] = event;
    yield {
      data: {
        ...head,
        choices: [{ ...choiceOf(index, '', event.finish, event.logprobs), ...routedExpertsOf(event) }],
      },
    };
  }
  if (options?.include_usage) yield { data: { ...head, choices: [], usage: usageOfPrompts(ends, n) } };
  yield { data: '[DONE]' };
}
