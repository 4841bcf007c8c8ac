import { ConfigError, didYouMean, show } from '../../errors.ts';
import { autoRound } from './auto-round.ts';
import { awq } from './awq.ts';
import { bitsandbytes } from './bitsandbytes.ts';
import { compressedTensors } from './compressed-tensors.ts';
import type { Format, ModuleReader, QuantizationSettings } from './format.ts';
import { fp8 } from './fp8.ts';
import { gptq } from './gptq.ts';
import { mlx } from './mlx.ts';
import { modelopt } from './modelopt.ts';
import { quark } from './quark.ts';
import { placeOf } from './settings.ts';

/** Every spelling of quantized weights that can be read. */
const FORMATS: readonly Format[] = [
  ...[fp8, gptq, awq, autoRound, compressedTensors, modelopt, mlx, bitsandbytes, quark],
];

/**
 * The reader of a checkpoint's quantized modules.
 * @throws ConfigError for a method that is not known, with the list of those that are, and for settings that are not served
 */
export function openFormat(settings: QuantizationSettings, warn: (message: string) => void): ModuleReader {
  const { method } = settings;
  const format = FORMATS.find(({ methods }) => methods.includes(method.toLowerCase()));
  if (format) return format.open(settings, warn);
  const titles = FORMATS.map(({ title }) => title);
  throw new ConfigError(
    `${placeOf(settings, 'quant_method')} is ${show(method)}, which cannot be read; quantized weights are read as ${titles.join(', ')}` +
      `${didYouMean(method, titles) || '.'} Take another repo of the model: one of these, or one with bfloat16 weights, usually the one without ` +
      'a suffix such as -FP8, -GPTQ-Int4 or -AWQ',
  );
}
