import { generativeAuto } from '../auto/auto-classes.ts';
import { AutoConfig, type CausalLM, type ImageTextToText } from '../index.ts';
import type { Io } from './io.ts';
import { measureAhead } from './measure-ahead.ts';
import { openModelRepo } from './open-model-repo.ts';
import { type ComputeFlags, computeOptions, given } from './options.ts';
import { createProgressDisplay } from './progress.ts';

/** Which model, and how it computes. */
export interface ModelFlags extends ComputeFlags {
  revision?: string;
  experts?: string | Record<string, string>;
}

/** Loads a model with its tokenizer, for commands that hold conversations, and shows how far that is. */
export async function loadModel(
  source: string,
  flags: ModelFlags,
  io: Io,
): Promise<CausalLM | ImageTextToText> {
  const display = createProgressDisplay(io.stderr);
  try {
    const repo = await openModelRepo(source, flags, io, display);
    const model = await generativeAuto(await AutoConfig.fromPretrained(repo)).fromPretrained(repo, {
      ...computeOptions(flags),
      ...given({ expertsImplementation: flags.experts }),
      signal: io.stop,
      onProgress: display.onProgress.bind(display),
      onWarning: (message: string) => display.write(`warning: ${message}\n`),
    });
    try {
      await model.tokenizer();
      display.finish();
      await measureAhead(model, flags.compile, io);
      return model;
    } catch (error) {
      await model.dispose();
      throw error;
    }
  } finally {
    display.finish();
  }
}
