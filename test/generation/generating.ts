import { generate } from '../../src/generation/generate.ts';
import type { GenerateOptions } from '../../src/generation/generate-options.ts';
import { type RowHistory, scoreProcessors } from '../../src/generation/logits-processors.ts';
import type { ResolvedParameters } from '../../src/generation/resolve-parameters.ts';
import { editAll } from '../../src/generation/score-edits.ts';
import { LookupModel } from './lookup-model.ts';

export const model = new LookupModel(97);
export const PROMPT = [5, 17, 3];
/** 20 new tokens where nobody says how many. */
export const run = (options: Partial<GenerateOptions>, defaults = {}) => {
  const isLimited = [options, options.generationConfig ?? {}, defaults].some(
    (level) => 'maxNewTokens' in level || 'maxLength' in level,
  );
  return generate(model, defaults, {
    inputIds: [PROMPT],
    ...(!isLimited && { maxNewTokens: 20 }),
    ...options,
  });
};
export const newTokens = async (options: Partial<GenerateOptions>, defaults = {}) =>
  (await run(options, defaults)).sequences.map((row) => row.slice(PROMPT.length));

/** What the processors make of all scores of a row, in place. */
export function edit(scores: Float32Array, parameters: ResolvedParameters, row: RowHistory): void {
  editAll(
    scores,
    scoreProcessors(parameters).flatMap((processor) => processor.edit(row) ?? []),
  );
}
