import { randomUUID } from 'node:crypto';
import type {
  LanguageModelV3Content,
  LanguageModelV3FinishReason,
  LanguageModelV3GenerateResult,
  LanguageModelV3StreamPart,
  LanguageModelV3ToolCall,
  LanguageModelV3Usage,
  SharedV3ProviderMetadata,
} from '@ai-sdk/provider';
import type { AnswerEnd } from '../server/answer.ts';
import type { AnswerBlock, BlockEvent } from '../server/answer-blocks.ts';
import { PROVIDER } from './request.ts';

type Ending = Pick<LanguageModelV3GenerateResult, 'finishReason' | 'usage' | 'providerMetadata'>;

/** What an answer consists of. */
export function contentOf(blocks: readonly AnswerBlock[]): LanguageModelV3Content[] {
  return blocks.flatMap((block): LanguageModelV3Content[] => {
    if (block.kind === 'text') return [{ type: 'text', text: block.text }];
    if (block.kind === 'reasoning') return [{ type: 'reasoning', text: block.text }];
    // A call that the limit has cut off is none to be made.
    return block.isCut ? [] : [callOf(block, newId())];
  });
}

function callOf({ name, text }: AnswerBlock, id: string): LanguageModelV3ToolCall {
  return { type: 'tool-call', toolCallId: id, toolName: name, input: text };
}

function newId(): string {
  return `call_${randomUUID()}`;
}

/** The parts of a stream. A call is one once it is whole. */
export async function* partsOf(
  events: AsyncIterable<BlockEvent>,
): AsyncGenerator<LanguageModelV3StreamPart, void, undefined> {
  let id = '';
  for await (const event of events) {
    if (event.type === 'end') {
      yield { type: 'finish', ...endingOf(event.end) };
    } else if (event.type === 'open') {
      const { kind, name } = event.block;
      id = kind === 'call' ? newId() : String(event.block.index);
      yield kind === 'call'
        ? { type: 'tool-input-start', id, toolName: name }
        : { type: `${kind}-start`, id };
    } else if (event.type === 'delta') {
      yield { type: `${NAMES[event.block.kind]}-delta`, id, delta: event.text };
    } else if (event.type === 'close') {
      yield { type: `${NAMES[event.block.kind]}-end`, id };
      if (event.block.kind === 'call' && !event.block.isCut) yield callOf(event.block, id);
    }
  }
}

const NAMES = { text: 'text', reasoning: 'reasoning', call: 'tool-input' } as const;

/** How an answer ended, and what it took. */
export function endingOf({ finish, stop, logprobs, usage }: AnswerEnd): Ending {
  const metadata = { ...(stop !== undefined && { stop }), ...(logprobs && { logprobs }) };
  return {
    finishReason: { unified: FINISHES[finish], raw: finish },
    usage: usageOf(usage),
    ...(Object.keys(metadata).length > 0 && {
      providerMetadata: { [PROVIDER]: metadata } as unknown as SharedV3ProviderMetadata,
    }),
  };
}

const FINISHES = {
  stop: 'stop',
  length: 'length',
  tool_calls: 'tool-calls',
} as const satisfies Record<AnswerEnd['finish'], LanguageModelV3FinishReason['unified']>;

function usageOf({
  promptTokens,
  cachedTokens,
  newTokens,
  reasoningTokens,
}: AnswerEnd['usage']): LanguageModelV3Usage {
  return {
    inputTokens: {
      total: promptTokens,
      noCache: promptTokens - cachedTokens,
      cacheRead: cachedTokens,
      // What stays for later prompts is nowhere counted apart.
      cacheWrite: undefined,
    },
    outputTokens: { total: newTokens, text: newTokens - reasoningTokens, reasoning: reasoningTokens },
  };
}
