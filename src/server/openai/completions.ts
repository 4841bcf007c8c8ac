import type { Tokenizer } from '../../index.ts';
import { type AnswerEnd, wholeAnswer } from '../answer.ts';
import type { AnswerEvents } from '../api.ts';
import { together } from '../async-queue.ts';
import type { ServerEvent } from '../event-stream.ts';
import type { ServedModel } from '../served-model.ts';
import { newHead, usageOf } from './chat-completions.ts';
import type { CompletionRequest } from './completion-request.ts';
import type { Echo, ScoredToken } from './echo.ts';
import { routedExpertsOf } from './routed-experts.ts';
import { TextOffsets } from './text-offsets.ts';

/** Of each prompt what is echoed of it, if anything. */
type Echoes = readonly (Echo | undefined)[];
type Scores = readonly ScoredToken[] | undefined;

/**
 * The response of `/v1/completions` where it does not stream.
 * @param answers `n` to each prompt; none where prompts are only echoed
 */
export async function completion(
  { name, model }: ServedModel,
  answers: readonly AnswerEvents[],
  echoes: Echoes,
  n: number,
) {
  const ends = await Promise.all(answers.map(wholeAnswer));
  const tokenizer = await model.tokenizer();
  const choices = echoes.flatMap((echo, prompt) =>
    Array.from({ length: n }, (_, i) => choiceOf(prompt * n + i, echo, ends[prompt * n + i], tokenizer)),
  );
  return {
    ...newHead(name, 'cmpl'),
    object: 'text_completion',
    choices,
    usage: usageOfPrompts(ends, echoes, n),
  };
}

function choiceOf(index: number, echo: Echo | undefined, end: AnswerEnd | undefined, tokenizer: Tokenizer) {
  const { logprobs: before = [], text = '' } = echo ?? {};
  const placed = [
    ...inPlace(before, new TextOffsets()),
    ...inPlace(end?.logprobs ?? [], offsetsOfAnswer(text, tokenizer)),
  ];
  return {
    index,
    text: `${text}${end?.message.content ?? ''}`,
    finish_reason: end?.finish ?? 'length',
    logprobs: logprobsOf(placed),
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

/** The text of an answer leaves special tokens out. */
function offsetsOfAnswer(before: string, tokenizer: Tokenizer): TextOffsets {
  return new TextOffsets(before, (id) => !tokenizer.isSpecial(id));
}

type PlacedScore = ScoredToken & { readonly offset: number };

function inPlace(scores: readonly ScoredToken[], offsets: TextOffsets): PlacedScore[] {
  return scores.map((token) => ({ ...token, offset: offsets.next(token) }));
}

function logprobsOf(tokens: readonly PlacedScore[]) {
  if (tokens.length === 0) return null;
  return {
    tokens: tokens.map(({ text }) => text ?? ''),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ top }) => top && byText(top)),
    text_offset: tokens.map(({ offset }) => offset),
  };
}

/** The likeliest tokens by their texts. Of several with one text, such as parts of characters, the likeliest counts. */
function byText(top: NonNullable<ScoredToken['top']>) {
  return Object.fromEntries(top.toReversed().map(({ text, logprob }) => [text ?? '', logprob]));
}

/** The events of `/v1/completions` where it streams: what is echoed, then the texts as they come, each with its log-probabilities. */
export async function* completionChunks(
  { name, model }: ServedModel,
  answers: readonly AnswerEvents[],
  echoes: () => Promise<Echoes>,
  n: number,
  { stream_options: options }: CompletionRequest,
): AsyncGenerator<ServerEvent, void, undefined> {
  const head = { ...newHead(name, 'cmpl'), object: 'text_completion' };
  const ends: AnswerEnd[] = [];
  const tokenizer = await model.tokenizer();
  const told = await echoes();
  const offsets = answers.map((_, i) => offsetsOfAnswer(told[Math.floor(i / n)]?.text ?? '', tokenizer));
  const scored = (index: number, tokens: Scores) => inPlace(tokens ?? [], offsets[index] as TextOffsets);
  const chunk = (
    index: number,
    text: string,
    finish: string | null,
    tokens: readonly PlacedScore[],
    rest: object = {},
  ) => {
    const logprobs = logprobsOf(tokens);
    return { data: { ...head, choices: [{ index, text, finish_reason: finish, logprobs, ...rest }] } };
  };
  const finish = answers.length > 0 ? null : 'length';
  for (const [prompt, echo] of told.entries())
    for (let i = 0; echo && i < n; i++)
      yield chunk(prompt * n + i, echo.text, finish, inPlace(echo.logprobs ?? [], new TextOffsets()));
  const numbered = answers.map(async function* (events, index) {
    for await (const event of events) yield { index, event };
  });
  for await (const { index, event } of together(numbered)) {
    if (event.type === 'content') yield chunk(index, event.text, null, scored(index, event.logprobs));
    if (event.type !== 'end') continue;
    ends[index] = event;
    yield chunk(index, '', event.finish, scored(index, event.lastLogprobs), routedExpertsOf(event));
  }
  if (options?.include_usage) yield { data: { ...head, choices: [], usage: usageOfPrompts(ends, told, n) } };
  yield { data: '[DONE]' };
}
