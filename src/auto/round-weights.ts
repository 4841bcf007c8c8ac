import { warn } from '../errors.ts';
import type { HubOptions } from '../hub/types.ts';
import type { Model } from '../models/architecture.ts';
import { narrowCheckpoint } from '../quantize/narrow-checkpoint.ts';
import { type QuantizeOptions, quantizeCheckpoint } from '../quantize/quantize-checkpoint.ts';
import { parseScheme, type Quantization } from '../quantize/scheme.ts';
import { defaultThreads } from '../runtime/threads.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';

/** What of the options concerns rounding. */
type RoundOptions = Pick<HubOptions, 'signal' | 'onProgress' | 'onWarning'> &
  Pick<QuantizeOptions, 'onPlan'> & { readonly threads?: number };

/**
 * The checkpoint as the option `quantization` wants it; without, as it is, but for float64 tensors, which become float32.
 * @throws as `quantizeCheckpoint`
 */
export async function roundWeights(
  model: Model,
  checkpoint: ModelCheckpoint,
  quantization: Quantization | undefined,
  id: string,
  { threads = defaultThreads(), signal, onPlan, onProgress, onWarning }: RoundOptions,
): Promise<ModelCheckpoint> {
  const common = {
    ...{ id, threads, signal, onPlan },
    warn: (message: string) => warn(message, onWarning),
    onProgress: (file: string, done: number, total: number) =>
      onProgress?.({
        stage: 'quantize',
        file,
        loadedBytes: done,
        fileBytes: total,
        totalLoadedBytes: done,
        totalBytes: total,
      }),
  };
  const narrowed = await narrowCheckpoint(checkpoint, isRead(model), common);
  return quantization === undefined
    ? narrowed
    : quantizeCheckpoint(model, narrowed, parseScheme(quantization), common);
}

/** Tells tensors that the model reads. */
export function isRead(model: Model): (name: string) => boolean {
  return (name) => {
    const { part } = model.work.use(name);
    return part !== 'unread' && part !== 'unknown';
  };
}
