import type { Repo } from '../hub/types.ts';
import type { Model } from '../models/architecture.ts';
import { openCheckpoint } from '../safetensors/checkpoint.ts';
import type { Checkpoint, TensorInfo } from '../safetensors/types.ts';

/** What torch puts before the names of a model that is saved inside a wrapper: of `torch.compile`, of data parallelism. */
const WRAPPER = /^(?:_orig_mod\.|module\.)+/;

/**
 * Opens the weights of a repo or folder, with tensors under the names that the model asks for.
 * @throws CheckpointError, HubError: see `openCheckpoint`
 */
export async function openModelCheckpoint(repo: Repo, model: Model): Promise<Checkpoint> {
  const { files, tensors } = await openCheckpoint(repo);
  const named = new Map<string, TensorInfo>();
  for (const [stored, tensor] of tensors) {
    const name = model.canonicalName(stored.replace(WRAPPER, ''));
    // Beside a tensor that has the name already, a second one of it stays what it is.
    const free = name === stored || tensors.has(name) || named.has(name) ? stored : name;
    named.set(free, free === stored ? tensor : { ...tensor, name: free });
  }
  return { files, tensors: named };
}
