import { resolveRepo } from '../hub/repo/resolve-repo.ts';
import type { HubOptions } from '../hub/types.ts';
import { loadProcessor, type Processor } from '../models/qwen3_vl_moe/processor.ts';
import { loadTokenizer } from '../tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Loads what turns text and pictures into inputs of an image-text model. Counterpart of HF `AutoProcessor`. */
export const AutoProcessor = {
  /**
   * @param idOrFolder repo id on the Hub, or a folder
   * @throws HubError, ConfigError, TokenizerError
   */
  async fromPretrained(idOrFolder: string, options: HubOptions = {}): Promise<Processor<Tokenizer>> {
    const repo = await resolveRepo(idOrFolder, options);
    return loadProcessor(repo, await loadTokenizer(repo));
  },
};
