import type { TokenLogprob } from '../../index.ts';
import type { TextPrompt } from '../answer-request.ts';
import { promptIds, type ServedModel } from '../served-model.ts';
import type { CompletionRequest } from './completion-request.ts';

/** How likely a token is after those before it; null for the first token of a prompt, before which there is nothing. */
export interface ScoredToken {
  readonly id: number;
  readonly text?: string;
  readonly bytes?: readonly number[];
  readonly logprob: number | null;
  readonly top: readonly TokenLogprob[] | null;
}

/** A prompt that its completions begin with. */
export interface Echo {
  readonly text: string;
  readonly tokens: number;
  /** Of each token, where they were asked for. */
  readonly logprobs: readonly ScoredToken[] | undefined;
}

/**
 * What a request has echoed of a prompt; undefined where it wants none.
 * @throws what `promptLogprobs` throws
 */
export async function echoOf(
  served: ServedModel,
  prompt: TextPrompt,
  { echo, logprobs: top, experts }: CompletionRequest,
  signal: AbortSignal,
): Promise<Echo | undefined> {
  if (!echo) return undefined;
  const { model } = served;
  const tokenizer = await model.tokenizer();
  const ids = await promptIds(served, prompt);
  const text = 'text' in prompt ? prompt.text : tokenizer.decode(ids, { unknownIds: 'skip' });
  if (top === undefined) return { text, tokens: ids.length, logprobs: undefined };
  const [scored = []] = await model.promptLogprobs({
    ...{ inputIds: [ids], top, tokenizer, signal },
    ...(experts !== undefined && { expertsImplementation: experts }),
  });
  const id = ids[0] as number;
  const bytes = Buffer.from(tokenizer.tokenBytes(id) ?? []);
  const first = { id, text: bytes.toString('utf8'), bytes: [...bytes], logprob: null, top: null };
  const logprobs = scored.map((token) => token ?? first);
  return { text, tokens: ids.length, logprobs };
}
