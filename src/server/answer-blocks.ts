import type { AnswerEnd, AnswerEvent } from './answer.ts';

/** A stretch of an answer of one kind. */
export interface AnswerBlock {
  readonly kind: 'reasoning' | 'text' | 'call';
  /** Place among the blocks of the answer. */
  readonly index: number;
  /** Of a call: the function. */
  readonly name: string;
  /** All of it so far; of a call its arguments. */
  text: string;
}

/** An answer as a row of blocks, of which one is open at a time. */
export type BlockEvent =
  | { readonly type: 'start'; readonly promptTokens: number }
  | { readonly type: 'open'; readonly block: AnswerBlock }
  | { readonly type: 'close'; readonly block: AnswerBlock }
  | { readonly type: 'delta'; readonly block: AnswerBlock; readonly text: string }
  | { readonly type: 'end'; readonly end: AnswerEnd };

/** Tells an answer block by block, as the APIs do that answer with a list of parts. */
export async function* inBlocks(
  events: AsyncIterable<AnswerEvent>,
): AsyncGenerator<BlockEvent, void, undefined> {
  let open: AnswerBlock | undefined;
  let count = 0;
  for await (const event of events) {
    if (event.type === 'start') {
      yield event;
      continue;
    }
    const kind = kindOf(event);
    // A call opens a block of its own, even behind another.
    if (open && (open.kind !== kind || event.type === 'tool_call')) {
      yield { type: 'close', block: open };
      open = undefined;
    }
    if (event.type === 'end') {
      yield { type: 'end', end: event };
      continue;
    }
    if (!open) {
      open = {
        kind: kind as AnswerBlock['kind'],
        index: count++,
        name: event.type === 'tool_call' ? event.name : '',
        text: '',
      };
      yield { type: 'open', block: open };
    }
    if (event.type === 'tool_call') continue;
    open.text += event.text;
    yield { type: 'delta', block: open, text: event.text };
  }
}

function kindOf({ type }: AnswerEvent): AnswerBlock['kind'] | undefined {
  if (type === 'reasoning') return 'reasoning';
  if (type === 'content') return 'text';
  return type === 'tool_call' || type === 'tool_call_arguments' ? 'call' : undefined;
}

/** All blocks of an answer, and its end. */
export async function wholeBlocks(
  events: AsyncIterable<AnswerEvent>,
): Promise<{ blocks: AnswerBlock[]; end: AnswerEnd }> {
  const blocks: AnswerBlock[] = [];
  let end: AnswerEnd | undefined;
  for await (const event of inBlocks(events)) {
    if (event.type === 'close') blocks.push(event.block);
    if (event.type === 'end') end = event.end;
  }
  if (!end) throw new Error('an answer ended without its end');
  return { blocks, end };
}
