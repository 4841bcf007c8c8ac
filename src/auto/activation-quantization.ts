/** Whether activations are rounded to int8 where they meet weights of whole numbers. */
import type { DType } from '../dtype.ts';
import { didYouMean, expected, InputError } from '../errors.ts';
import type { Device } from '../runtime/choose-device.ts';
import { meetsBytes } from '../weights/quantized-checkpoint.ts';
import type { QuantizedTensor } from '../weights/quantized-tensor.ts';

export type ActivationQuantization = 'int8' | 'none';

const CHOICES: readonly string[] = ['int8', 'none'] satisfies ActivationQuantization[];

const ON_GPU =
  'activationQuantization is "int8", but a GPU computes with activations of the model\'s dtype; leave it or device out';

/** @throws InputError unless the value is one of ours, or undefined, and can have an effect where the model is to compute */
export function checkActivationQuantization(value: unknown, device: Device = 'cpu'): void {
  if (value === undefined || value === 'none') return;
  const wanted = `"int8" or "none"${didYouMean(value, CHOICES)}`;
  if (value !== 'int8') throw new InputError(expected('activationQuantization', value, wanted));
  if (device.startsWith('cuda')) throw new InputError(ON_GPU);
}

/**
 * What was asked for, or the default: rounded, but in float32. The demo's perplexity changes by less than 0.05% by it with each of our formats
 * (24.280 to 24.287 with int8, 24.292 to 24.300 with int4), as much as by computing in bfloat16.
 *
 * @throws InputError where it was asked for and has no effect: on a GPU, or where no weights are whole numbers
 */
export function roundsActivations(
  asked: ActivationQuantization | undefined,
  model: {
    readonly id: string;
    readonly quantized: ReadonlyMap<string, QuantizedTensor>;
    readonly dtype: DType;
    readonly onGpu: boolean;
  },
): boolean {
  if (asked === 'none') return false;
  const could = [...model.quantized.values()].some(meetsBytes);
  if (asked === undefined) return could && model.dtype !== 'float32' && !model.onGpu;
  if (model.onGpu) throw new InputError(ON_GPU);
  if (!could)
    throw new InputError(
      `activationQuantization: ${model.id} has no weights of whole numbers, of 4 or 8 bits in groups of 32 or a multiple, that rounded activations could meet. Round them, too, with ` +
        'quantization (--quantize), or leave it out',
    );
  return true;
}
