import { resolveRepo } from '../hub/repo/resolve-repo.ts';
import type { HubOptions } from '../hub/types.ts';
import { BaseModel, CausalLM } from '../model/causal-lm.ts';
import { ImageTextToText } from '../model/image-text-to-text.ts';
import { loadTokenizer } from '../tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type ConfigOverride, loadConfig, type PretrainedConfig, publicConfig } from './load-config.ts';
import { type LoadOptions, loadModel } from './load-model.ts';

/** Reads and validates a config.json. Counterpart of HF `AutoConfig`. */
export const AutoConfig = {
  /**
   * @param idOrFolder repo id on the Hub, or a folder
   * @throws HubError, ConfigError
   */
  async fromPretrained(
    idOrFolder: string,
    options: HubOptions & { config?: ConfigOverride } = {},
  ): Promise<PretrainedConfig> {
    return publicConfig(await loadConfig(await resolveRepo(idOrFolder, options), options.config, options));
  },
};

/** Loads a tokenizer with its chat template. Counterpart of HF `AutoTokenizer`. */
export const AutoTokenizer = {
  /**
   * @param idOrFolder repo id on the Hub, or a folder
   * @throws HubError, TokenizerError
   */
  async fromPretrained(idOrFolder: string, options: HubOptions = {}): Promise<Tokenizer> {
    return loadTokenizer(await resolveRepo(idOrFolder, options));
  },
};

/** Loads a text model without its head: `forward` gives hidden states. Counterpart of HF `AutoModel`. */
export const AutoModel = {
  /**
   * @param idOrFolder repo id on the Hub, or a folder
   * @throws HubError, ConfigError, CheckpointError, ExpertsError, EngineError, InputError
   */
  async fromPretrained(idOrFolder: string, options: LoadOptions = {}): Promise<BaseModel> {
    return new BaseModel(await loadModel(idOrFolder, options, 'last_hidden_state'));
  },
};

/** Loads a text model that generates. Counterpart of HF `AutoModelForCausalLM`. */
export const AutoModelForCausalLM = {
  /**
   * @param idOrFolder repo id on the Hub, or a folder
   * @throws HubError, ConfigError, CheckpointError, ExpertsError, EngineError, InputError
   */
  async fromPretrained(idOrFolder: string, options: LoadOptions = {}): Promise<CausalLM> {
    return new CausalLM(await loadModel(idOrFolder, options, 'logits'));
  },
};

/** Loads a model that reads images and text. Counterpart of HF `AutoModelForImageTextToText`. */
export const AutoModelForImageTextToText = {
  /**
   * @param idOrFolder repo id on the Hub, or a folder
   * @throws HubError, ConfigError, CheckpointError, ExpertsError, EngineError, InputError
   */
  async fromPretrained(idOrFolder: string, options: LoadOptions = {}): Promise<ImageTextToText> {
    return new ImageTextToText(await loadModel(idOrFolder, options, 'logits', 'image-text'));
  },
};
