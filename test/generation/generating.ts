import { generate } from '../../src/generation/generate.ts';
import type { GenerateOptions } from '../../src/generation/generate-options.ts';
import { LookupModel } from './lookup-model.ts';

export const model = new LookupModel(97);
export const PROMPT = [5, 17, 3];
export const run = (options: Partial<GenerateOptions>, defaults = {}) =>
  generate(model, defaults, { inputIds: [PROMPT], ...options });
export const newTokens = async (options: Partial<GenerateOptions>, defaults = {}) =>
  (await run(options, defaults)).sequences.map((row) => row.slice(PROMPT.length));
