import { abortable, abortIf, ConfigError, HubError } from '../errors.ts';
import type { HubOptions, Repo } from '../hub/types.ts';
import type { MediaPart } from '../models/architecture.ts';
import { checkOptions, noMore } from '../options.ts';
import type { PixelBounds } from '../processor/pixel-bounds.ts';
import { loadProcessor, type Processor } from '../processor/processor.ts';
import { loadTokenizer } from '../tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { loadConfig } from './load-config.ts';
import { HUB_OPTIONS, type ModelSource, openRepo } from './open-repo.ts';

/** Options of `AutoProcessor.fromPretrained`. */
export interface ProcessorLoadOptions extends HubOptions, PixelBounds {
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
    ...rest: never[]
  ): Promise<Processor<Tokenizer>> {
    const where = 'AutoProcessor.fromPretrained';
    noMore(rest, where, 'options go into the second');
    const { tokenizer, minPixels, maxPixels, size, ...hub } = checkOptions(options, NAMES, where);
    return abortable(options.signal, 'loading the processor', async () => {
      const repo = await openRepo(source, hub);
      const bounds = { minPixels, maxPixels, size };
      const texts = tokenizer ?? (await loadTokenizer(repo));
      const processor = await loadProcessor(repo, texts, bounds, await mediaOf(repo));
      abortIf(options.signal, 'loading the processor');
      return processor;
    });
  },
};

/** What the repo's model sees by; undefined where there is none, or none that is known: its processor may be wanted all the same. */
async function mediaOf(repo: Repo): Promise<MediaPart | undefined> {
  try {
    return (await loadConfig(repo)).model.media;
  } catch (error) {
    if (error instanceof ConfigError || error instanceof HubError) return undefined;
    throw error;
  }
}

const NAMES: readonly string[] = [...HUB_OPTIONS, 'tokenizer', 'minPixels', 'maxPixels', 'size'];
