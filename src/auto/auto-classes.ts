import { abortIf } from '../errors.ts';
import type { HubOptions } from '../hub/types.ts';
import { BaseModel, CausalLM } from '../model/causal-lm.ts';
import { ImageTextToText } from '../model/image-text-to-text.ts';
import { loadTokenizer } from '../tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type ConfigOverride, loadConfig, type PretrainedConfig, publicConfig } from './load-config.ts';
import { type LoadOptions, loadModel } from './load-model.ts';
import { type ModelSource, openRepo } from './open-repo.ts';

/** Reads and validates a config.json. Counterpart of HF `AutoConfig`. */
export const AutoConfig = {
  /**
   * @param source repo id on the Hub, a folder, or either resolved
   * @throws HubError, ConfigError
   */
  async fromPretrained(
    source: ModelSource,
    options: HubOptions & { config?: ConfigOverride } = {},
  ): Promise<PretrainedConfig> {
    return publicConfig(await loadConfig(await openRepo(source, options), options.config, options));
  },
};

/** Loads a tokenizer with its chat template. Counterpart of HF `AutoTokenizer`. */
export const AutoTokenizer = {
  /**
   * @param source repo id on the Hub, a folder, or either resolved
   * @throws HubError, TokenizerError
   */
  async fromPretrained(source: ModelSource, options: HubOptions = {}): Promise<Tokenizer> {
    const tokenizer = await loadTokenizer(await openRepo(source, options));
    abortIf(options.signal, 'loading the tokenizer');
    return tokenizer;
  },
};

/** Loads a text model without its head: `forward` gives hidden states. Counterpart of HF `AutoModel`. */
export const AutoModel = {
  /**
   * @param source repo id on the Hub, a folder, or either resolved
   * @throws HubError, ConfigError, CheckpointError, ExpertsError, EngineError, InputError
   */
  async fromPretrained(source: ModelSource, options: LoadOptions = {}): Promise<BaseModel> {
    return new BaseModel(await loadModel(source, options, 'last_hidden_state'));
  },
};

/** Loads a text model that generates. Counterpart of HF `AutoModelForCausalLM`. */
export const AutoModelForCausalLM = {
  /**
   * @param source repo id on the Hub, a folder, or either resolved
   * @throws HubError, ConfigError, CheckpointError, ExpertsError, EngineError, InputError
   */
  async fromPretrained(source: ModelSource, options: LoadOptions = {}): Promise<CausalLM> {
    return new CausalLM(await loadModel(source, options, 'logits'));
  },
};

/** Loads a model that reads images and text. Counterpart of HF `AutoModelForImageTextToText`. */
export const AutoModelForImageTextToText = {
  /**
   * @param source repo id on the Hub, a folder, or either resolved
   * @throws HubError, ConfigError, CheckpointError, ExpertsError, EngineError, InputError
   */
  async fromPretrained(source: ModelSource, options: LoadOptions = {}): Promise<ImageTextToText> {
    return new ImageTextToText(await loadModel(source, options, 'logits', 'image-text'));
  },
};

/** The auto class that loads a model which generates text, with or without pictures. */
export function generativeAuto({ hasVision }: Pick<PretrainedConfig, 'hasVision'>) {
  return hasVision ? AutoModelForImageTextToText : AutoModelForCausalLM;
}
