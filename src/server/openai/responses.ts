import { randomUUID } from 'node:crypto';
import type { AnswerEnd } from '../answer.ts';
import { type AnswerBlock, inBlocks, wholeBlocks } from '../answer-blocks.ts';
import type { AnswerEvents } from '../api.ts';
import type { ApiError } from '../api-error.ts';
import type { ServerEvent } from '../event-stream.ts';
import { describeToken, newCallId } from './chat-completions.ts';
import type { ResponseRequest } from './response-fields.ts';

function newId(prefix: string): string {
  return `${prefix}_${randomUUID().replaceAll('-', '')}`;
}

/** What a response says besides its output. */
function frame(model: string, body: ResponseRequest) {
  return {
    id: newId('resp'),
    object: 'response',
    created_at: Math.floor(Date.now() / 1000),
    model,
    error: null,
    incomplete_details: null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    metadata: body.metadata ?? {},
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: null,
    store: false,
    temperature: body.temperature ?? null,
    tool_choice: body.tool_choice ?? 'auto',
    tools: body.tools ?? [],
    top_p: body.top_p ?? null,
    top_logprobs: body.top_logprobs ?? 0,
    text: body.text ?? { format: { type: 'text' } },
  };
}

/** The response of `/v1/responses`. */
export async function response(model: string, [events]: readonly AnswerEvents[], body: ResponseRequest) {
  const { blocks, end } = await wholeBlocks(events as AnswerEvents);
  const items = blocks.map((block) => itemOf(block, idsOf(block), statusOf(block)));
  return { ...frame(model, body), ...outcome(end), output: items, output_text: end.message.content };
}

function outcome({ finish, usage }: AnswerEnd) {
  const { promptTokens, cachedTokens, newTokens, reasoningTokens } = usage;
  const isCut = finish === 'length';
  return {
    status: isCut ? 'incomplete' : 'completed',
    ...(isCut && { incomplete_details: { reason: 'max_output_tokens' } }),
    usage: {
      input_tokens: promptTokens,
      input_tokens_details: { cached_tokens: cachedTokens },
      output_tokens: newTokens,
      output_tokens_details: { reasoning_tokens: reasoningTokens },
      total_tokens: promptTokens + newTokens,
    },
  };
}

interface Ids {
  readonly id: string;
  readonly callId: string;
}

const PREFIXES = { text: 'msg', reasoning: 'rs', call: 'fc' } as const;

function idsOf({ kind }: AnswerBlock): Ids {
  return { id: newId(PREFIXES[kind]), callId: newCallId() };
}

type Status = 'in_progress' | 'completed' | 'incomplete';

/** Of a block that is closed. */
function statusOf({ isCut }: AnswerBlock): Status {
  return isCut ? 'incomplete' : 'completed';
}

function itemOf(block: AnswerBlock, { id, callId }: Ids, status: Status) {
  const isOpen = status === 'in_progress';
  switch (block.kind) {
    case 'text':
      return { type: 'message', id, status, role: 'assistant', content: isOpen ? [] : [partOf(block)] };
    case 'reasoning':
      return { type: 'reasoning', id, status, summary: [], content: isOpen ? [] : [partOf(block)] };
    case 'call':
      return {
        type: 'function_call',
        id,
        status,
        call_id: callId,
        name: block.name,
        arguments: isOpen ? '' : block.text,
      };
  }
}

function partOf({ kind, text, logprobs }: AnswerBlock, isEmpty = false) {
  const said = isEmpty ? '' : text;
  return kind === 'reasoning'
    ? { type: 'reasoning_text', text: said }
    : {
        type: 'output_text',
        text: said,
        annotations: [],
        logprobs: isEmpty ? [] : logprobs.map(describeToken),
      };
}

/** The events of `/v1/responses` where it streams. */
export async function* responseEvents(
  model: string,
  [events]: readonly AnswerEvents[],
  body: ResponseRequest,
): AsyncGenerator<ServerEvent, void, undefined> {
  let number = 0;
  const event = (type: string, rest: object): ServerEvent => ({
    event: type,
    data: { type, sequence_number: number++, ...rest },
  });
  const begun = { ...frame(model, body), status: 'in_progress', output: [], usage: null };
  const output: object[] = [];
  let ids: Ids = { id: '', callId: '' };
  yield event('response.created', { response: begun });
  yield event('response.in_progress', { response: begun });
  for await (const one of inBlocks(events as AnswerEvents)) {
    if (one.type === 'open') {
      ids = idsOf(one.block);
      yield event('response.output_item.added', {
        output_index: one.block.index,
        item: itemOf(one.block, ids, 'in_progress'),
      });
      if (one.block.kind !== 'call')
        yield event('response.content_part.added', {
          ...placeOf(one.block, ids),
          part: partOf(one.block, true),
        });
    } else if (one.type === 'delta') {
      yield event(`${NAMES[one.block.kind]}.delta`, {
        ...placeOf(one.block, ids),
        delta: one.text,
        ...(one.block.kind === 'text' && { logprobs: (one.logprobs ?? []).map(describeToken) }),
      });
    } else if (one.type === 'close') {
      yield* closing(one.block, ids, event);
      const item = itemOf(one.block, ids, statusOf(one.block));
      output.push(item);
      yield event('response.output_item.done', { output_index: one.block.index, item });
    } else if (one.type === 'end') {
      const end = outcome(one.end);
      yield event(`response.${end.status}`, { response: { ...begun, ...end, output } });
    }
  }
}

const NAMES = {
  text: 'response.output_text',
  reasoning: 'response.reasoning_text',
  call: 'response.function_call_arguments',
} as const;

function placeOf({ kind, index }: AnswerBlock, { id }: Ids) {
  return { item_id: id, output_index: index, ...(kind !== 'call' && { content_index: 0 }) };
}

function* closing(block: AnswerBlock, ids: Ids, event: (type: string, rest: object) => ServerEvent) {
  const place = placeOf(block, ids);
  if (block.kind === 'call') {
    yield event(`${NAMES.call}.done`, { ...place, name: block.name, arguments: block.text });
    return;
  }
  yield event(`${NAMES[block.kind]}.done`, {
    ...place,
    text: block.text,
    ...(block.kind === 'text' && { logprobs: block.logprobs.map(describeToken) }),
  });
  yield event('response.content_part.done', { ...place, part: partOf(block) });
}

/** What is sent of a failure in the midst of a stream. */
export function responseFailed({ message, code, param }: ApiError): ServerEvent {
  return {
    event: 'error',
    data: { type: 'error', code: code ?? 'server_error', message, param, sequence_number: 0 },
  };
}
