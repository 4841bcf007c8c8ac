import type { StoredWeight } from '../graph/weight-source.ts';
import type { Repo } from '../hub/types.ts';
import { storedWeights } from '../weights/quantized-checkpoint.ts';
import type { LoadedConfig } from './load-config.ts';
import { openModelCheckpoint } from './model-checkpoint.ts';
import { openQuantization } from './quantization.ts';

export type { StoredWeight };

/**
 * The weights of a repo or folder by name, shape, storage and bytes; none is read.
 * @throws as `openQuantization` and `openModelCheckpoint`
 */
export async function listStoredWeights(
  repo: Repo,
  { json, model }: LoadedConfig,
): Promise<{ readonly files: readonly string[]; readonly weights: readonly StoredWeight[] }> {
  const checkpoint = await openModelCheckpoint(repo, model, await openQuantization(repo, json));
  // Numbers by which something is looked up are no parameters.
  const weights = storedWeights(checkpoint).filter(
    ({ name, storage }) => model.work.use(name).part !== 'unread' && storage !== 'I64',
  );
  return { files: checkpoint.files, weights };
}
