import { randomUUID } from 'node:crypto';
import type { TokenLogprobs, ToolCall } from '../../index.ts';
import { type AnswerEnd, type AnswerEvent, wholeAnswer } from '../answer.ts';
import { together } from '../async-queue.ts';
import type { ServerEvent } from '../event-stream.ts';
import type { ChatRequest } from './chat-fields.ts';
import { routedExpertsOf } from './routed-experts.ts';

/** What of an answer every part of a response repeats. */
interface Head {
  readonly id: string;
  readonly created: number;
  readonly model: string;
}

export function newHead(model: string, prefix: string): Head {
  return {
    id: `${prefix}-${randomUUID().replaceAll('-', '')}`,
    created: Math.floor(Date.now() / 1000),
    model,
  };
}

type Answers = readonly AsyncGenerator<AnswerEvent, void, undefined>[];

/** The response to a request that does not stream. */
export async function chatCompletion(model: string, answers: Answers) {
  const ends = await Promise.all(answers.map(wholeAnswer));
  return {
    ...newHead(model, 'chatcmpl'),
    object: 'chat.completion',
    choices: ends.map((end, index) => ({
      index,
      message: messageOf(end),
      finish_reason: end.finish,
      logprobs: logprobsOf(end.logprobs),
      ...routedExpertsOf(end),
    })),
    usage: usageOf(ends),
  };
}

function messageOf({ message }: AnswerEnd) {
  const { content, reasoning_content: reasoning, tool_calls: calls } = message;
  return {
    role: 'assistant',
    content: content === '' && calls ? null : content,
    refusal: null,
    ...(reasoning !== undefined && { reasoning_content: reasoning }),
    ...(calls && { tool_calls: calls.map(callOf) }),
  };
}

export function newCallId(): string {
  return `call_${randomUUID().replaceAll('-', '').slice(0, 24)}`;
}

function callOf({ function: { name, arguments: given } }: ToolCall) {
  const text = typeof given === 'string' ? given : JSON.stringify(given);
  return { id: newCallId(), type: 'function', function: { name, arguments: text } };
}

/** Prompts of several answers are one. */
export function usageOf(ends: readonly AnswerEnd[]) {
  const sum = (of: (end: AnswerEnd) => number) => ends.reduce((total, end) => total + of(end), 0);
  const prompt = ends[0]?.usage.promptTokens ?? 0;
  const completion = sum((end) => end.usage.newTokens);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: ends[0]?.usage.cachedTokens ?? 0 },
    completion_tokens_details: {
      reasoning_tokens: sum((end) => end.usage.reasoningTokens),
      accepted_prediction_tokens: sum((end) => end.usage.drafts.accepted),
      rejected_prediction_tokens: sum((end) => end.usage.drafts.drafted - end.usage.drafts.accepted),
    },
  };
}

function logprobsOf(logprobs: readonly TokenLogprobs[] | undefined) {
  if (!logprobs) return null;
  return { content: logprobs.map(describeToken), refusal: null };
}

/** A token with the likeliest ones at its place, as OpenAI's APIs tell of it. */
export function describeToken({ top, ...token }: TokenLogprobs) {
  const describe = ({ text, logprob, bytes }: Omit<TokenLogprobs, 'top'>) => ({
    token: text ?? '',
    logprob,
    bytes: bytes ?? null,
  });
  return { ...describe(token), top_logprobs: top.map(describe) };
}

/** The events of a request that streams: the role at once, then what comes, the reason for the end, the usage where it was asked for. */
export async function* chatChunks(
  model: string,
  answers: Answers,
  { stream_options: options }: ChatRequest,
): AsyncGenerator<ServerEvent, void, undefined> {
  const head = { ...newHead(model, 'chatcmpl'), object: 'chat.completion.chunk' };
  const chunk = (index: number, delta: object, rest: object = {}): ServerEvent => ({
    data: {
      ...head,
      choices: [{ index, delta, finish_reason: null, logprobs: null, ...rest }],
      ...(options?.include_usage && { usage: null }),
    },
  });
  const ends: AnswerEnd[] = [];
  for await (const { index, event } of together(answers.map(numbered))) {
    if (event.type === 'start') yield chunk(index, { role: 'assistant', content: '' });
    else if (event.type === 'end') {
      ends.push(event);
      const logprobs = logprobsOf(event.lastLogprobs);
      yield chunk(index, {}, { finish_reason: event.finish, logprobs, ...routedExpertsOf(event) });
    } else yield chunk(index, deltaOf(event), { logprobs: logprobsOf(event.logprobs) });
  }
  if (options?.include_usage) yield { data: { ...head, choices: [], usage: usageOf(ends) } };
  yield { data: '[DONE]' };
}

async function* numbered(events: AsyncGenerator<AnswerEvent, void, undefined>, index: number) {
  for await (const event of events) yield { index, event };
}

function deltaOf(event: Exclude<AnswerEvent, { type: 'start' | 'end' }>) {
  switch (event.type) {
    case 'content':
      return { content: event.text };
    case 'reasoning':
      return { reasoning_content: event.text };
    case 'tool_call':
      return {
        tool_calls: [
          {
            index: event.index,
            id: newCallId(),
            type: 'function',
            function: { name: event.name, arguments: '' },
          },
        ],
      };
    case 'tool_call_arguments':
      return { tool_calls: [{ index: event.index, function: { arguments: event.text } }] };
  }
}
