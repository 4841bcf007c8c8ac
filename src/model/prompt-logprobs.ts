import { planPrefill } from '../engine/batch.ts';
import type { Engine } from '../engine/engine.ts';
import type { Prompt } from '../engine/sequence.ts';
import type { BackendReader } from '../engine/tuning/policy.ts';
import { abortIf, expected, InputError } from '../errors.ts';
import { logprobsOf, type TokenLogprobs } from '../generation/logprobs.ts';
import { Pace } from '../generation/pace.ts';
import { MOST_LOGPROBS } from '../generation/parameters.ts';
import type { TokenRows } from '../generation/prompt.ts';
import * as io from '../models/io.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { ExpertsImplementation } from './pretrained-model.ts';

/** Arguments of `promptLogprobs`. */
export interface PromptLogprobsInputs {
  /** As those of `forward`: padded on the left to one length. */
  inputIds: TokenRows;
  attentionMask?: TokenRows | undefined;
  /** How many of the likeliest tokens to list at each place, 0 to 20. Default 0 */
  top?: number | undefined;
  /** For the tokens' texts. Default: the model's own, once it has been loaded. */
  tokenizer?: Tokenizer | undefined;
  /** Backend of this call alone. */
  expertsImplementation?: ExpertsImplementation | undefined;
  signal?: AbortSignal | undefined;
}

export const PROMPT_LOGPROBS_OPTIONS = [
  'inputIds',
  'attentionMask',
  'top',
  'tokenizer',
  'expertsImplementation',
  'signal',
] as const satisfies readonly (keyof PromptLogprobsInputs)[];

/**
 * How likely each token of each prompt is after those before it. Logits are let go of pass by pass, so that a long prompt needs no more
 * memory for them than a short one.
 */
export async function scorePrompts(
  engine: Engine,
  prompts: readonly Prompt[],
  { top = 0, tokenizer, signal }: PromptLogprobsInputs,
  experts: BackendReader,
): Promise<(TokenLogprobs | null)[][]> {
  if (!Number.isInteger(top) || top < 0 || top > MOST_LOGPROBS)
    throw new InputError(expected('promptLogprobs: top', top, `a whole number from 0 to ${MOST_LOGPROBS}`));
  const { vocabSize } = engine.model;
  const pace = new Pace();
  engine.assertRoom(prompts.map(({ ids }) => ids.length));
  const sequences = prompts.map((prompt) => engine.open(prompt));
  for (const sequence of sequences) sequence.isPinned = true;
  // Nothing comes before the first token.
  const scored = prompts.map((): (TokenLogprobs | null)[] => [null]);
  try {
    await engine.reserve(sequences, signal);
    for (const chunks of planPrefill(sequences)) {
      const tokens = chunks.reduce((sum, chunk) => sum + chunk.tokens, 0);
      const request = {
        ...({ chunks, head: 'logits', intermediates: false, wanted: () => true } as const),
        ...{ experts: experts.choose({ tokens, phase: 'prefill' }), kind: experts.requested() },
      };
      const { outputs } = await engine.run(request, signal);
      const logits = outputs[io.LOGITS]?.data as Float32Array;
      let row = 0;
      for (const { sequence, tokens: count } of chunks) {
        const into = scored[sequences.indexOf(sequence)] as (TokenLogprobs | null)[];
        for (let i = 0; i < count; i++, row++) {
          // The scores after the last token are about one that is not there.
          if (into.length === sequence.length) continue;
          const scores = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
          into.push(logprobsOf(scores, sequence.idAt(into.length), top, tokenizer));
          await pace.breathe();
          abortIf(signal, 'promptLogprobs');
        }
      }
    }
  } finally {
    for (const sequence of sequences) engine.close(sequence);
  }
  return scored;
}
