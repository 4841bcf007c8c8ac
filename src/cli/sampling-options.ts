import type { Command } from 'commander';
import { UsageError } from './io.ts';
import { decimal, given, integer, strings } from './options.ts';

/** What {@link addSamplingOptions} reads. */
export interface SamplingFlags {
  maxNewTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  stop?: string[];
  ignoreEos?: boolean;
  seed?: number;
  thinkingBudget?: number;
  guidanceScale?: number;
  negativePrompt?: string;
}

/** Adds the options of how tokens are chosen, and when to stop, alike in every command that generates. */
export function addSamplingOptions(command: Command, limit: string): Command {
  return command
    .option('-n, --max-new-tokens <n>', `most tokens to generate (default: ${limit})`, integer(1))
    .option('--temperature <t>', 'sample at this temperature; 0 is greedy', decimal({ least: 0 }))
    .option('--top-k <k>', 'when sampling, among the k likeliest tokens; 0 is all', integer(0))
    .option(
      '--top-p <p>',
      'when sampling, among the likeliest tokens of this sum',
      decimal({ least: 0, most: 1 }),
    )
    .option('--min-p <p>', 'when sampling, drop what is below p × the best', decimal({ least: 0, most: 1 }))
    .option('--repetition-penalty <r>', 'above 1 avoids repetition', decimal({ above: 0 }))
    .option('--stop <text>', 'end with this text, which is left out; repeatable', strings)
    .option('--ignore-eos', 'go on after an end token')
    .option('--seed <n>', 'makes sampling repeatable', integer(0))
    .option('--thinking-budget <n>', 'most tokens of reasoning; it is closed then', integer(0))
    .option('--guidance-scale <s>', 'favour what follows from the prompt; 1 is off', decimal({ least: 0 }))
    .option('--negative-prompt <text>', 'with --guidance-scale: what to lead away from');
}

/** Options of `generate` that the flags ask for. */
export function generationOptions(flags: SamplingFlags) {
  const { temperature, topK, topP, minP, guidanceScale, negativePrompt } = flags;
  if (negativePrompt !== undefined && guidanceScale === undefined)
    throw new UsageError('--negative-prompt comes with --guidance-scale; add it, such as 1.5');
  const greedy = temperature === 0;
  return {
    ...given({
      maxNewTokens: flags.maxNewTokens,
      stopStrings: flags.stop,
      repetitionPenalty: flags.repetitionPenalty,
      seed: flags.seed,
      thinkingBudget: flags.thinkingBudget,
      guidanceScale,
      negativePrompt,
    }),
    ...(greedy ? { doSample: false } : given({ temperature, topK, topP, minP })),
    // The temperature says whether tokens are drawn; the others say how, where they are.
    ...(!greedy && temperature !== undefined && { doSample: true }),
    ...(flags.ignoreEos && { eosTokenId: [] }),
  };
}

/** What to warn of where flags say how tokens are drawn, beside one that has none drawn. Where the model draws none, `generate` refuses them. */
export function unusedSampling({ temperature, topK, topP, minP }: SamplingFlags): string | undefined {
  const names = Object.keys(given({ '--top-k': topK, '--top-p': topP, '--min-p': minP }));
  if (temperature !== 0 || names.length === 0) return undefined;
  return `${names.join(' and ')} ${names.length > 1 ? 'have' : 'has'} no effect at --temperature 0; give another temperature, or none`;
}
