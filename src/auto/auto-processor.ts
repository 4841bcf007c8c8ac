import { abortIf } from '../errors.ts';
import type { HubOptions } from '../hub/types.ts';
import { loadProcessor, type Processor } from '../models/qwen3_vl_moe/processor.ts';
import { loadTokenizer } from '../tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type ModelSource, openRepo } from './open-repo.ts';

/** Options of `AutoProcessor.fromPretrained`. */
export interface ProcessorLoadOptions extends HubOptions {
  /** The model's tokenizer, where it is loaded already. */
  tokenizer?: Tokenizer;
}

/** Loads what turns text and pictures into inputs of an image-text model. Counterpart of HF `AutoProcessor`. */
export const AutoProcessor = {
  /**
   * @param source repo id on the Hub, a folder, or either resolved
   * @throws HubError, ConfigError, TokenizerError
   */
  async fromPretrained(
    source: ModelSource,
    options: ProcessorLoadOptions = {},
  ): Promise<Processor<Tokenizer>> {
    const repo = await openRepo(source, options);
    const processor = await loadProcessor(repo, options.tokenizer ?? (await loadTokenizer(repo)));
    abortIf(options.signal, 'loading the processor');
    return processor;
  },
};
