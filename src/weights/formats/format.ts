/** What every spelling of quantized weights answers. Types only. */
import type { TensorInfo } from '../../safetensors/types.ts';
import type { QuantizedTensor } from '../quantized-tensor.ts';
import type { StoredModule } from './module.ts';

export type Settings = Readonly<Record<string, unknown>>;

/** What a checkpoint says of its quantization. */
export interface QuantizationSettings {
  /** As written: `quant_method`, or what the place of the settings stands for. */
  readonly method: string;
  readonly json: Settings;
  /** Path or name of the file. */
  readonly file: string;
  /** The field in which they stand, such as `quantization_config`; empty for a file of its own. */
  readonly field: string;
}

/** One way in which publishers write quantized weights down. */
export interface Format {
  /** For lists of what can be read. */
  readonly title: string;
  /** Values of `quant_method`. */
  readonly methods: readonly string[];
  /**
   * @param warn hears of what is odd but can be read
   * @throws ConfigError for a setting that is malformed or not served, naming its place, field and value
   */
  open(settings: QuantizationSettings, warn: (message: string) => void): ModuleReader;
}

/** How the modules of one checkpoint are read. */
export interface ModuleReader {
  /** Takes the name of a tensor apart; undefined where none of a quantized module could be called so. */
  split(name: string, dtype: TensorInfo['dtype']): SplitName | undefined;
  /** Small parts whose values decide how a module is read, so that they are at hand in `read`. */
  readonly values?: readonly string[];
  /**
   * @returns the weight; undefined for a module that is stored plain
   * @throws CheckpointError for parts that are missing or do not fit each other or the settings, naming tensor and file
   */
  read(module: StoredModule): QuantizedTensor | undefined;
}

export interface SplitName {
  /** Name of the module, or of the weight where parts are called after that. */
  readonly module: string;
  /** The rest of the tensor's name. */
  readonly part: string;
  /** Whether it only says how activations were rounded, and is not needed. */
  readonly ignored?: boolean;
}
