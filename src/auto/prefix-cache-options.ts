import { expected, InputError } from '../errors.ts';
import { checkOptions } from '../options.ts';
import { parseMemory } from '../runtime/choose-device.ts';
import type { Device } from '../runtime/device.ts';
import { memoryHere } from '../runtime/memory-here.ts';

/** How much a model keeps of what it has computed, for prompts that begin alike. */
export interface PrefixCacheOptions {
  /** Most memory of keys, values and recurrent states kept: bytes, or text such as `2GB`. Default: a sixteenth of the memory there is. */
  maxBytes?: number | string;
}

/** Part of the memory, of this process or of the GPU, that is kept where nothing is said. */
const DEFAULT_SHARE = 1 / 16;

/**
 * Bytes that the option asks for; undefined where it asks for the default.
 * @throws InputError for what is no such option
 */
export function checkPrefixCache(option: unknown): number | undefined {
  if (option === undefined) return undefined;
  if (option === false) return 0;
  if (typeof option !== 'object' || option === null)
    throw new InputError(expected('prefixCache', option, 'false, or an object with maxBytes'));
  const { maxBytes } = checkOptions<PrefixCacheOptions>(option, ['maxBytes'], 'prefixCache');
  return maxBytes === undefined ? undefined : parseMemory(maxBytes, 'prefixCache: maxBytes');
}

/** @param device undefined for the CPU */
export function defaultPrefixBytes(device: Device | undefined): number {
  const memory = device?.totalBytes ?? memoryHere().total;
  return Math.floor(memory * DEFAULT_SHARE);
}
