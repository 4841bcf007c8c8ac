import { generate } from '../../src/generation/generate.ts';
import type { GenerateOptions } from '../../src/generation/generate-options.ts';
import { type RowHistory, scoreProcessors } from '../../src/generation/logits-processors.ts';
import type { ResolvedParameters } from '../../src/generation/resolve-parameters.ts';
import { editAll } from '../../src/generation/score-edits.ts';
import { LookupModel } from './lookup-model.ts';

export const model = new LookupModel(97);
export const PROMPT = [5, 17, 3];
export const run = (options: Partial<GenerateOptions>, defaults = {}) =>
  generate(model, defaults, { inputIds: [PROMPT], ...options });
export const newTokens = async (options: Partial<GenerateOptions>, defaults = {}) =>
  (await run(options, defaults)).sequences.map((row) => row.slice(PROMPT.length));

/** What the processors make of all scores of a row, in place. */
export function edit(scores: Float32Array, parameters: ResolvedParameters, row: RowHistory): void {
  editAll(
    scores,
    scoreProcessors(parameters).flatMap((processor) => processor.edit(row) ?? []),
  );
}
