import { randomUUID } from 'node:crypto';
import type { AnswerEnd } from '../answer.ts';
import { type AnswerBlock, inBlocks, wholeBlocks } from '../answer-blocks.ts';
import type { AnswerEvents } from '../api.ts';
import type { ServerEvent } from '../event-stream.ts';
import { wholeMembers } from './whole-members.ts';

function newMessage(model: string) {
  return { id: newId('msg'), type: 'message', role: 'assistant', model };
}

function newId(prefix: string): string {
  return `${prefix}_${randomUUID().replaceAll('-', '')}`;
}

const REASONS = { stop: 'end_turn', length: 'max_tokens', tool_calls: 'tool_use' } as const;

function reasonOf({ finish, stop }: AnswerEnd) {
  return { stop_reason: stop === undefined ? REASONS[finish] : 'stop_sequence', stop_sequence: stop ?? null };
}

/** What was computed earlier is counted apart. */
const usageOf = (prompt: number, output: number, cached = 0) => ({
  input_tokens: prompt - cached,
  output_tokens: output,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: cached,
});

/** The response of `/v1/messages`. */
export async function message(model: string, [events]: readonly AnswerEvents[]) {
  const { blocks, end } = await wholeBlocks(events as AnswerEvents);
  return {
    ...newMessage(model),
    content: blocks.map((block) => ({ ...opened(block), ...filled(block) })),
    ...reasonOf(end),
    usage: usageOf(end.usage.promptTokens, end.usage.newTokens, end.usage.cachedTokens),
  };
}

function opened({ kind, name }: AnswerBlock) {
  switch (kind) {
    case 'text':
      return { type: 'text', text: '' };
    case 'reasoning':
      return { type: 'thinking', thinking: '', signature: '' };
    case 'call':
      return { type: 'tool_use', id: newId('toolu'), name, input: {} };
  }
}

function filled(block: AnswerBlock) {
  const { kind, text } = block;
  if (kind === 'call') return { input: inputOf(block) };
  return kind === 'text' ? { text } : { thinking: text };
}

/** Of a call that was cut off what is whole, as clients make it of a stream. The API has no place for arguments that are no object. */
function inputOf({ text, isCut }: AnswerBlock): unknown {
  if (isCut) return wholeMembers(text);
  try {
    return JSON.parse(text);
  } catch {
    return { arguments: text };
  }
}

/** The events of `/v1/messages` where it streams. */
export async function* messageEvents(
  model: string,
  [events]: readonly AnswerEvents[],
): AsyncGenerator<ServerEvent, void, undefined> {
  const event = (type: string, rest: object): ServerEvent => ({ event: type, data: { type, ...rest } });
  let promptTokens = 0;
  for await (const one of inBlocks(events as AnswerEvents)) {
    if (one.type === 'start') {
      promptTokens = one.promptTokens;
      const begun = {
        ...newMessage(model),
        content: [],
        stop_reason: null,
        stop_sequence: null,
        usage: usageOf(promptTokens, 0),
      };
      yield event('message_start', { message: begun });
    } else if (one.type === 'open')
      yield event('content_block_start', { index: one.block.index, content_block: opened(one.block) });
    else if (one.type === 'delta')
      yield event('content_block_delta', { index: one.block.index, delta: deltaOf(one.block, one.text) });
    else if (one.type === 'close') yield event('content_block_stop', { index: one.block.index });
    else {
      yield event('message_delta', {
        delta: reasonOf(one.end),
        usage: usageOf(promptTokens, one.end.usage.newTokens, one.end.usage.cachedTokens),
      });
      yield event('message_stop', {});
    }
  }
}

function deltaOf({ kind }: AnswerBlock, text: string) {
  if (kind === 'text') return { type: 'text_delta', text };
  return kind === 'reasoning'
    ? { type: 'thinking_delta', thinking: text }
    : { type: 'input_json_delta', partial_json: text };
}
