import { searchBeams } from './beam-search.ts';
import { decodeRows } from './decode-rows.ts';
import type { GenerateOptions } from './generate-options.ts';
import { GenerationRun, type Strategy } from './generation-run.ts';
import type { GenerateOutput } from './output.ts';
import type { GenerationConfig } from './parameters.ts';
import { makePlan, type Plan } from './plan.ts';
import type { Prompts } from './prompt.ts';
import { endStreamer, refuseStreamer } from './streaming.ts';
import type { Generator } from './types.ts';

/**
 * Generates text from prompts: prefill, then token by token until every row has ended.
 *
 * Parameters come from the call, else from `options.generationConfig`, else from `defaults` (generation_config.json),
 * else from transformers' defaults. A row depends on nothing but its own prompt, the parameters, the seed and its
 * position in the batch. Ties, filters and penalties follow transformers, except that padding is never penalised.
 *
 * @param prompts those of `options`, as the model has checked them, and with guidance what they lead away from
 * @throws {InputError} an option or id is out of range or of the wrong type; nothing has run then.
 * @throws {GenerationAbortError} the signal fired.
 */
export async function generate(
  generator: Generator,
  defaults: GenerationConfig,
  options: GenerateOptions,
  prompts: Prompts,
): Promise<GenerateOutput> {
  const plan = await planOf(generator, defaults, options, prompts);
  const run = new GenerationRun(plan);
  try {
    return await run.toEnd(generator, strategyOf(plan));
  } catch (error) {
    const failure = plan.signal?.aborted ? run.aborted() : error;
    await endStreamer(plan, failure);
    throw failure;
  }
}

async function planOf(...given: Parameters<typeof makePlan>): Promise<Plan> {
  try {
    return makePlan(...given);
  } catch (error) {
    await refuseStreamer(given[2], error);
    throw error;
  }
}

function strategyOf({ parameters }: Plan): Strategy {
  return parameters.numBeams > 1 ? searchBeams : decodeRows;
}
