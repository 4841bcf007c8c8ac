import { InputError } from '../errors.ts';
import type { ResolvedParameters } from './resolve-parameters.ts';
import type { PromptRow } from './types.ts';

/** What is asked for of how many tokens a row has at least. */
export type Minimum = Pick<ResolvedParameters, 'minNewTokens' | 'minLength'>;

/**
 * New tokens that each row may have; 0 where the prompts fill the context.
 *
 * @param rows all prompts that are read, the longest of which bounds all rows
 * @param minimum what the call asks for; one of generation_config.json yields to the limit
 * @throws InputError for prompts that leave no room, and for a minimum that the limit does not allow
 */
export function tokenBudget(
  parameters: ResolvedParameters,
  rows: readonly PromptRow[],
  contextLength: number,
  minimum: Minimum,
): number {
  const lengths = rows.map(({ ids }) => ids.length);
  const width = lengths.reduce((most, length) => Math.max(most, length), 0);
  if (width > contextLength) {
    throw new InputError(
      `The prompt has ${width} tokens, but the model's context holds ${contextLength}. Shorten the prompt`,
    );
  }
  const { maxLength } = parameters;
  if (maxLength !== undefined && maxLength <= width) {
    throw new InputError(
      `maxLength is ${maxLength}, but the prompt alone has ${width} tokens. Raise it, or set maxNewTokens instead`,
    );
  }
  const wanted = parameters.maxNewTokens ?? (maxLength as number) - width;
  const budget = Math.min(wanted, contextLength - width);
  checkMinimum(minimum, lengths, budget, () => {
    const left = `, which leaves ${budget} new tokens after a prompt of ${width}`;
    if (budget === contextLength - width)
      return [`the model's context holds ${contextLength}${left}`, 'shorten the prompt'];
    if (maxLength !== undefined) return [`maxLength is ${maxLength}${left}`, 'raise maxLength'];
    return [`maxNewTokens is ${wanted}${parameters.isLimited ? '' : ' where nobody sets it'}`, 'raise that'];
  });
  return budget;
}

/** transformers warns of a minimum that cannot be kept, and goes on without. @throws InputError */
function checkMinimum(
  { minNewTokens, minLength }: Minimum,
  lengths: readonly number[],
  budget: number,
  limit: () => readonly [what: string, remedy: string],
): void {
  const shortest = lengths.reduce((least, length) => Math.min(least, length), Infinity);
  const [name, value, most] =
    minLength > 0
      ? (['minLength', minLength, shortest + budget] as const)
      : (['minNewTokens', minNewTokens, budget] as const);
  if (value <= most) return;
  const [what, remedy] = limit();
  const start = minLength > 0 ? `a prompt has ${shortest} tokens and ` : '';
  throw new InputError(`${name} is ${value}, but ${start}${what}. Lower ${name}, or ${remedy}`);
}
