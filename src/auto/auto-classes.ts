import { abortable, abortIf } from '../errors.ts';
import type { HubOptions } from '../hub/types.ts';
import { BaseModel, CausalLM } from '../model/causal-lm.ts';
import { ImageTextToText } from '../model/image-text-to-text.ts';
import { checkOptions, noMore } from '../options.ts';
import { loadTokenizer } from '../tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type ConfigOverride, loadConfig, type PretrainedConfig, publicConfig } from './load-config.ts';
import { loadModel } from './load-model.ts';
import { LOAD_OPTIONS, type LoadOptions } from './load-options.ts';
import { HUB_OPTIONS, type ModelSource, openRepo } from './open-repo.ts';

/** Reads and validates a config.json. Counterpart of HF `AutoConfig`. */
export const AutoConfig = {
  /**
   * @param source repo id on the Hub, a folder, or either resolved
   * @throws HubError, ConfigError
   */
  async fromPretrained(
    source: ModelSource,
    options: HubOptions & { config?: ConfigOverride } = {},
    ...rest: never[]
  ): Promise<PretrainedConfig> {
    checkCall('AutoConfig', options, rest, [...HUB_OPTIONS, 'config']);
    const { config, ...hub } = options;
    return abortable(options.signal, 'loading the config', async () =>
      publicConfig(await loadConfig(await openRepo(source, hub), config, hub)),
    );
  },
};

/** Loads a tokenizer with its chat template. Counterpart of HF `AutoTokenizer`. */
export const AutoTokenizer = {
  /**
   * @param source repo id on the Hub, a folder, or either resolved
   * @throws HubError, TokenizerError
   */
  async fromPretrained(source: ModelSource, options: HubOptions = {}, ...rest: never[]): Promise<Tokenizer> {
    checkCall('AutoTokenizer', options, rest, HUB_OPTIONS);
    return abortable(options.signal, 'loading the tokenizer', async () => {
      const tokenizer = await loadTokenizer(await openRepo(source, options));
      abortIf(options.signal, 'loading the tokenizer');
      return tokenizer;
    });
  },
};

/** Loads a text model without its head: `forward` gives hidden states. Counterpart of HF `AutoModel`. */
export const AutoModel = {
  /**
   * @param source repo id on the Hub, a folder, or either resolved
   * @throws HubError, ConfigError, CheckpointError, ExpertsError, EngineError, InputError
   */
  async fromPretrained(source: ModelSource, options: LoadOptions = {}, ...rest: never[]): Promise<BaseModel> {
    checkCall('AutoModel', options, rest, LOAD_OPTIONS);
    return abortable(
      options.signal,
      'loading the model',
      async () => new BaseModel(await loadModel(source, options, 'last_hidden_state')),
    );
  },
};

/** Loads a text model that generates. Counterpart of HF `AutoModelForCausalLM`. */
export const AutoModelForCausalLM = {
  /**
   * @param source repo id on the Hub, a folder, or either resolved
   * @throws HubError, ConfigError, CheckpointError, ExpertsError, EngineError, InputError
   */
  async fromPretrained(source: ModelSource, options: LoadOptions = {}, ...rest: never[]): Promise<CausalLM> {
    checkCall('AutoModelForCausalLM', options, rest, LOAD_OPTIONS);
    return abortable(
      options.signal,
      'loading the model',
      async () => new CausalLM(await loadModel(source, options, 'logits')),
    );
  },
};

/** Loads a model that reads images and text. Counterpart of HF `AutoModelForImageTextToText`. */
export const AutoModelForImageTextToText = {
  /**
   * @param source repo id on the Hub, a folder, or either resolved
   * @throws HubError, ConfigError, CheckpointError, ExpertsError, EngineError, InputError
   */
  async fromPretrained(
    source: ModelSource,
    options: LoadOptions = {},
    ...rest: never[]
  ): Promise<ImageTextToText> {
    checkCall('AutoModelForImageTextToText', options, rest, LOAD_OPTIONS);
    return abortable(
      options.signal,
      'loading the model',
      async () => new ImageTextToText(await loadModel(source, options, 'logits', 'image-text')),
    );
  },
};

/** The auto class that loads a model which generates text, with or without pictures. */
export function generativeAuto({ hasVision }: Pick<PretrainedConfig, 'hasVision'>) {
  return hasVision ? AutoModelForImageTextToText : AutoModelForCausalLM;
}

/** Refuses options that nobody knows, and arguments after them. */
function checkCall(name: string, options: object, rest: readonly unknown[], known: readonly string[]): void {
  const where = `${name}.fromPretrained`;
  checkOptions(options, known, where);
  noMore(rest, where, 'options go into the second');
}
