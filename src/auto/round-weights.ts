import { warn } from '../errors.ts';
import type { HubOptions } from '../hub/types.ts';
import type { Model } from '../models/architecture.ts';
import { quantizeCheckpoint } from '../quantize/quantize-checkpoint.ts';
import { parseScheme, type Quantization } from '../quantize/scheme.ts';
import { defaultThreads } from '../runtime/threads.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';

/** What of the options concerns rounding. */
type RoundOptions = Pick<HubOptions, 'signal' | 'onProgress' | 'onWarning'> & { readonly threads?: number };

/**
 * The checkpoint as the option `quantization` wants it; without, as it is.
 * @throws as `quantizeCheckpoint`
 */
export async function roundWeights(
  model: Model,
  checkpoint: ModelCheckpoint,
  quantization: Quantization | undefined,
  id: string,
  { threads = defaultThreads(), signal, onProgress, onWarning }: RoundOptions,
): Promise<ModelCheckpoint> {
  if (quantization === undefined) return checkpoint;
  return quantizeCheckpoint(model, checkpoint, parseScheme(quantization), {
    ...{ id, threads, signal },
    warn: (message) => warn(message, onWarning),
    onProgress: (file, done, total) =>
      onProgress?.({
        stage: 'quantize',
        file,
        loadedBytes: done,
        fileBytes: total,
        totalLoadedBytes: done,
        totalBytes: total,
      }),
  });
}
