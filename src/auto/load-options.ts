import { DTYPES, type DType, didYouMeanDType } from '../dtype.ts';
import { expected, InputError } from '../errors.ts';
import type { HubOptions } from '../hub/types.ts';
import type { ExpertsImplementation } from '../model/pretrained-model.ts';
import type { OptionNames } from '../options.ts';
import { parseScheme, type Quantization } from '../quantize/scheme.ts';
import { type Device, parseMemory } from '../runtime/choose-device.ts';
import { checkThreads } from '../runtime/threads.ts';
import { type ActivationQuantization, checkActivationQuantization } from './activation-quantization.ts';
import type { ConfigOverride } from './load-config.ts';
import { HUB_OPTIONS } from './open-repo.ts';
import { checkPinnedExperts, type PinnedExperts } from './pinned-experts.ts';
import { checkPrefixCache, type PrefixCacheOptions } from './prefix-cache-options.ts';
import { type WeightPages, wantsPacked } from './weight-pages.ts';

/** Options of `fromPretrained`. */
export interface LoadOptions extends HubOptions {
  config?: ConfigOverride;
  /** Precision of the computation; `auto`, the default, is the checkpoint's own. */
  dtype?: DType | 'auto';
  /** Where to compute: `cpu`, the default, `cuda`, `cuda:N`, or `auto`, a GPU where one can be used. */
  device?: Device;
  /**
   * Bound on the memory of the weights, on a GPU or the CPU: bytes, or text such as `20GB`. What does not fit are experts; they are fetched when
   * chosen, and those used least give way. On the CPU they are read from the disk, past the system's page cache, many at a time.
   */
  maxMemory?: number | string;
  /**
   * Keeps the experts that a file of routing records needs most where they are computed with: on the CPU in memory, on a GPU, under
   * `maxMemory`, there.
   */
  pinnedExperts?: PinnedExperts;
  /**
   * Where the CPU reads weights from: `mapped`, the default, the pages of the files, which take no memory of the process's own; or `packed`, a
   * copy in large pages of memory, made in the background once the model is open and read from as it grows. It is faster, and takes as much
   * memory as the weights. On processors with AVX512-BF16 the copy of bfloat16 weights has another layout, whose sums are added up in
   * another order: results differ from those of mapped weights by such rounding, and are otherwise the same bit for bit.
   */
  weights?: WeightPages;
  /** Backend of the experts, as a name or by sub-config; default `grouped_mm`. */
  expertsImplementation?: ExpertsImplementation | null;
  /**
   * Whether a model set to `grouped_mm` decodes with `batched_mm` on a GPU where few tokens and experts make that faster; default
   * true. What `compile` has measured goes before.
   */
  decodeWithBatchedMm?: boolean;
  /**
   * Threads of the engine; default: the physical cores this process may use, at most the CPU quota of its container. More than the
   * processors it may run on are not used.
   */
  threads?: number;
  /** Bound on prompt + new tokens, and with it on the memory of the KV cache. */
  maxCacheLength?: number;
  /**
   * Bound on the memory of the whole cache, of keys and values, recurrent states and what is kept of them: bytes, or text such as `2GB`. Where
   * it is met, the youngest generations give up what they have computed and compute it again later; no row can be longer than there is
   * room for. Default: none.
   */
  maxCacheBytes?: number | string;
  /**
   * Element type of the keys and values that are kept, on the CPU: half as many bytes as `float32`, which is a little more exact, for
   * `bfloat16` and `float16`. Default: `dtype`.
   */
  cacheDtype?: DType;
  /**
   * What is kept of keys, values and recurrent states when a generation ends, so that prompts that begin alike, as the next turn of a chat, are computed
   * from there on only; `false` for nothing. Default: a sixteenth of the memory of the machine, or of the GPU.
   */
  prefixCache?: PrefixCacheOptions | false;
  /**
   * Rounds the weights on the first load, and keeps them in SWITCHYARD_CACHE for the next: `int8` halves what a bfloat16 model takes and
   * reads, `int4` makes a quarter of it. Progress is told as stage `quantize`, the size before all else.
   */
  quantization?: Quantization;
  /**
   * `int8`: activations that meet weights of whole numbers (int8, int4, GPTQ, MXFP4 …) are rounded to int8, in blocks of 32 with a scale
   * each, as llama.cpp does it: up to twice as fast, and a little less exact. `none`: they are not. Default: `int8` on the CPU for such
   * weights, unless `dtype` is float32.
   */
  activationQuantization?: ActivationQuantization;
  /** Names of tensors that may be missing from the checkpoint; they are taken as zeros, with a warning. */
  allowMissing?: readonly string[];
}

const NAMES: OptionNames<Omit<LoadOptions, keyof HubOptions>> = {
  ...{ config: true, dtype: true, device: true, maxMemory: true, expertsImplementation: true },
  ...{ decodeWithBatchedMm: true, threads: true, cacheDtype: true, maxCacheLength: true, allowMissing: true },
  pinnedExperts: true,
  prefixCache: true,
  maxCacheBytes: true,
  quantization: true,
  activationQuantization: true,
  weights: true,
};

/** Options of models. */
export const LOAD_OPTIONS: readonly string[] = [...HUB_OPTIONS, ...Object.keys(NAMES)];

/** What follows from options alone. */
interface Checked {
  readonly packed: boolean;
  /** Bytes, as the others. */
  readonly maxMemory: number | undefined;
  readonly prefixBytes: number | undefined;
  readonly maxCacheBytes: number | undefined;
}

/**
 * Checks what can be checked before a file is looked at.
 * @throws InputError, or what the option's own error is, naming it
 */
export function checkLoadOptions(options: LoadOptions): Checked {
  checkValues(options);
  const packed = wantsPacked(options);
  const maxMemory = options.maxMemory === undefined ? undefined : parseMemory(options.maxMemory);
  checkPinnedExperts(options.pinnedExperts);
  const prefixBytes = checkPrefixCache(options.prefixCache);
  const { maxCacheBytes: bound } = options;
  const maxCacheBytes = bound === undefined ? undefined : parseMemory(bound, 'maxCacheBytes');
  return { packed, maxMemory, prefixBytes, maxCacheBytes };
}

function checkValues(options: LoadOptions): void {
  const { allowMissing = [], onWarning } = options;
  if (!(Array.isArray(allowMissing) && allowMissing.every((name) => typeof name === 'string')))
    throw new InputError(expected('allowMissing', allowMissing, 'a list of names of tensors'));
  if (onWarning !== undefined && typeof onWarning !== 'function')
    throw new InputError(expected('onWarning', onWarning, 'a function'));
  if (options.quantization !== undefined) parseScheme(options.quantization);
  checkActivationQuantization(options.activationQuantization, options.device);
  const { dtype, cacheDtype, threads, maxCacheLength, decodeWithBatchedMm } = options;
  if (decodeWithBatchedMm !== undefined && typeof decodeWithBatchedMm !== 'boolean')
    throw new InputError(expected('decodeWithBatchedMm', decodeWithBatchedMm, 'true or false'));
  if (cacheDtype !== undefined && !DTYPES.includes(cacheDtype))
    throw new InputError(expected('cacheDtype', cacheDtype, DTYPES.join(', ') + didYouMeanDType(cacheDtype)));
  if (dtype !== undefined && dtype !== 'auto' && !DTYPES.includes(dtype))
    throw new InputError(
      expected('dtype', dtype, `auto, ${DTYPES.join(', ')}${didYouMeanDType(dtype)}`) +
        (/[48]/.test(String(dtype)) ? ". Fewer bits a weight are quantization: 'int8' or 'int4'" : ''),
    );
  if (threads !== undefined) checkThreads(threads);
  if (maxCacheLength !== undefined && !(Number.isInteger(maxCacheLength) && maxCacheLength > 0))
    throw new InputError(expected('maxCacheLength', maxCacheLength, 'a whole number above 0'));
}
