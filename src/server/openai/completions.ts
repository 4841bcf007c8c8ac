import { type AnswerEnd, wholeAnswer } from '../answer.ts';
import type { AnswerEvents } from '../api.ts';
import { together } from '../async-queue.ts';
import type { ServerEvent } from '../event-stream.ts';
import { newHead, usageOf } from './chat-completions.ts';
import type { CompletionRequest } from './completion-request.ts';
import type { Echo, ScoredToken } from './echo.ts';
import { routedExpertsOf } from './routed-experts.ts';

/** Of each prompt what is echoed of it, if anything. */
type Echoes = readonly (Echo | undefined)[];
type Scores = readonly ScoredToken[] | undefined;

/**
 * The response of `/v1/completions` where it does not stream.
 * @param answers `n` to each prompt; none where prompts are only echoed
 */
export async function completion(model: string, answers: readonly AnswerEvents[], echoes: Echoes, n: number) {
  const ends = await Promise.all(answers.map(wholeAnswer));
  const choices = echoes.flatMap((echo, prompt) =>
    Array.from({ length: n }, (_, i) => choiceOf(prompt * n + i, echo, ends[prompt * n + i])),
  );
  return {
    ...newHead(model, 'cmpl'),
    object: 'text_completion',
    choices,
    usage: usageOfPrompts(ends, echoes, n),
  };
}

function choiceOf(index: number, echo: Echo | undefined, end: AnswerEnd | undefined) {
  const scores = [echo?.logprobs, end?.logprobs].filter((one) => one !== undefined).flat();
  return {
    index,
    text: `${echo?.text ?? ''}${end?.message.content ?? ''}`,
    finish_reason: end?.finish ?? 'length',
    logprobs: scores.length > 0 ? logprobsOf(scores, 0) : null,
    ...(end && routedExpertsOf(end)),
  };
}

/** Answers to one prompt share it. */
function usageOfPrompts(ends: readonly AnswerEnd[], echoes: Echoes, n: number) {
  const usage = usageOf(ends);
  const first = ends.filter((_, i) => i % n === 0);
  const echoed = echoes.reduce((sum, echo) => sum + (echo?.tokens ?? 0), 0);
  const prompt = first.length > 0 ? first.reduce((sum, end) => sum + end.usage.promptTokens, 0) : echoed;
  const cached = first.reduce((sum, end) => sum + end.usage.cachedTokens, 0);
  return {
    ...usage,
    prompt_tokens: prompt,
    total_tokens: prompt + usage.completion_tokens,
    prompt_tokens_details: { cached_tokens: cached },
  };
}

/** @param offset where the first token's text begins in that of the choice */
function logprobsOf(logprobs: Scores, offset: number) {
  if (!logprobs || logprobs.length === 0) return null;
  const texts = logprobs.map(({ text }) => text ?? '');
  let end = offset;
  return {
    tokens: texts,
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(({ top }) => top && byText(top)),
    text_offset: texts.map((text) => {
      end += text.length;
      return end - text.length;
    }),
  };
}

/** The likeliest tokens by their texts. Of several with one text, such as parts of characters, the likeliest counts. */
function byText(top: NonNullable<ScoredToken['top']>) {
  return Object.fromEntries(top.toReversed().map(({ text, logprob }) => [text ?? '', logprob]));
}

/** The events of `/v1/completions` where it streams: what is echoed, then the texts as they come, each with its log-probabilities. */
export async function* completionChunks(
  model: string,
  answers: readonly AnswerEvents[],
  echoes: () => Promise<Echoes>,
  n: number,
  { stream_options: options }: CompletionRequest,
): AsyncGenerator<ServerEvent, void, undefined> {
  const head = { ...newHead(model, 'cmpl'), object: 'text_completion' };
  const ends: AnswerEnd[] = [];
  const offsets: number[] = [];
  const chunk = (index: number, text: string, finish: string | null, scores: Scores, rest: object = {}) => {
    const logprobs = logprobsOf(scores, offsets[index] ?? 0);
    offsets[index] = (offsets[index] ?? 0) + (logprobs?.tokens.join('').length ?? 0);
    return { data: { ...head, choices: [{ index, text, finish_reason: finish, logprobs, ...rest }] } };
  };
  const told = await echoes();
  for (const [prompt, echo] of told.entries())
    for (let i = 0; echo && i < n; i++)
      yield chunk(prompt * n + i, echo.text, answers.length > 0 ? null : 'length', echo.logprobs);
  const numbered = answers.map(async function* (events, index) {
    for await (const event of events) yield { index, event };
  });
  for await (const { index, event } of together(numbered)) {
    if (event.type === 'content') yield chunk(index, event.text, null, event.logprobs);
    if (event.type !== 'end') continue;
    ends[index] = event;
    yield chunk(index, '', event.finish, event.lastLogprobs, routedExpertsOf(event));
  }
  if (options?.include_usage) yield { data: { ...head, choices: [], usage: usageOfPrompts(ends, told, n) } };
  yield { data: '[DONE]' };
}
