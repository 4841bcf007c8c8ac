import type { TokenLogprobs } from '../index.ts';
import type { AnswerEnd, AnswerEvent, Scored } from './answer.ts';

/** A stretch of an answer of one kind. */
export interface AnswerBlock {
  readonly kind: 'reasoning' | 'text' | 'call';
  /** Place among the blocks of the answer. */
  readonly index: number;
  /** Of a call: the function. */
  readonly name: string;
  /** All of it so far; of a call its arguments. */
  text: string;
  /** Of text: its tokens so far, where they were asked for. */
  readonly logprobs: TokenLogprobs[];
  /** Whether a limit has cut it off; known once it is closed. */
  isCut: boolean;
}

/** An answer as a row of blocks, of which one is open at a time. */
export type BlockEvent =
  | { readonly type: 'start'; readonly promptTokens: number }
  | { readonly type: 'open'; readonly block: AnswerBlock }
  | { readonly type: 'close'; readonly block: AnswerBlock }
  | ({ readonly type: 'delta'; readonly block: AnswerBlock; readonly text: string } & Scored)
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
      open.isCut = event.type === 'end' && event.finish === 'length' && !isWholeCall(open);
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
        logprobs: [],
        isCut: false,
      };
      yield { type: 'open', block: open };
    }
    if (event.type === 'tool_call') continue;
    open.text += event.text;
    const logprobs = event.type === 'content' ? tokensOf(event) : undefined;
    open.logprobs.push(...(logprobs ?? []));
    yield { type: 'delta', block: open, text: event.text, logprobs };
  }
}

/** Whether all arguments of a call have come, whatever its end. */
function isWholeCall({ kind, text }: AnswerBlock): boolean {
  if (kind !== 'call') return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Of the tokens that have come with a text, those that it consists of: others beside them were tags, or the end of a turn. */
function tokensOf({ text, logprobs }: { readonly text: string } & Scored): Scored['logprobs'] {
  if (!logprobs) return undefined;
  const bytes = logprobs.map((token) => Buffer.from(token.bytes ?? []));
  const holds = (from: number, to: number) => Buffer.concat(bytes.slice(from, to)).includes(text);
  let [from, to] = [0, bytes.length];
  // Of bytes that are no text nothing is left out.
  if (!holds(from, to)) return logprobs;
  while (from < to && holds(from, to - 1)) to--;
  while (from < to && holds(from + 1, to)) from++;
  return logprobs.slice(from, to);
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
