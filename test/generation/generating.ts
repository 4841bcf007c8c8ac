import { generate as generateChecked } from '../../src/generation/generate.ts';
import type { GenerateOptions } from '../../src/generation/generate-options.ts';
import { type RowHistory, scoreProcessors } from '../../src/generation/logits-processors.ts';
import type { GenerationConfig } from '../../src/generation/parameters.ts';
import { checkPrompts, type Prompts } from '../../src/generation/prompt.ts';
import type { ResolvedParameters } from '../../src/generation/resolve-parameters.ts';
import { editAll } from '../../src/generation/score-edits.ts';
import type { Generator } from '../../src/generation/types.ts';
import { LookupModel } from './lookup-model.ts';

/** As a model does it: prompts are checked, then continued, with guidance away from their last tokens. */
export async function generate(
  generator: Generator,
  defaults: GenerationConfig,
  options: GenerateOptions,
  prompts: Prompts = checkPrompts(options.inputIds, options.attentionMask, generator.vocabSize),
) {
  const negative = prompts.rows.map(({ ids }) => ({ ids: ids.slice(-1) }));
  return generateChecked(generator, defaults, options, { negative, ...prompts });
}

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
