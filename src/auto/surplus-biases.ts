import { CheckpointError } from '../errors.ts';
import { readTensors } from '../safetensors/read-tensors.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';

/**
 * Tools store a bias of zeros beside every quantized module, also where the architecture has none; one that says something must not be
 * passed over.
 * @param names of biases that no graph asks for
 * @throws CheckpointError naming file and tensor of one that is not zero
 */
export async function assertZero({ tensors }: ModelCheckpoint, names: readonly string[]): Promise<void> {
  const biases = names.map((name) => tensors.get(name)).filter((tensor) => tensor !== undefined);
  for (const [i, bytes] of (await readTensors(biases)).entries()) {
    const bias = biases[i];
    if (bias && bytes.some((byte) => byte !== 0))
      throw new CheckpointError(
        `${bias.file}: ${bias.storedName ?? bias.name} is not zero, but the architecture has no bias there. ` +
          'Check that config.json belongs to these weights, and its attention_bias',
      );
  }
}
