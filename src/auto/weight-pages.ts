/** Where the CPU reads weights from: the option `weights`. */
import { didYouMean, EngineError, expected, InputError } from '../errors.ts';
import { largePageBytes } from '../runtime/machine.ts';

/** `mapped`: the pages of the files. `packed`: a copy in large pages of this process's memory. */
export type WeightPages = 'mapped' | 'packed';

export const WEIGHT_PAGES: readonly WeightPages[] = ['mapped', 'packed'];

/** Why weights on a GPU are not packed. */
export const PACKED_ON_GPU =
  "weights: 'packed' is about the memory that the CPU reads, and the model is on a GPU, which has a copy of its own. Leave it out";

/**
 * Whether weights are to be packed.
 *
 * @param largePage bytes of one, 0 where there is none
 * @throws InputError for another value, with a GPU, with experts that are pinned, or with a bound; EngineError where the system has no large pages to give
 */
export function wantsPacked(
  {
    weights,
    device,
    pinnedExperts,
    maxMemory,
  }: { weights?: unknown; device?: string; pinnedExperts?: unknown; maxMemory?: unknown },
  largePage: () => number = largePageBytes,
): boolean {
  if (weights === undefined || weights === 'mapped') return false;
  if (weights !== 'packed')
    throw new InputError(
      expected('weights', weights, `"mapped" or "packed"${didYouMean(weights, WEIGHT_PAGES)}`),
    );
  if (device?.startsWith('cuda')) throw new InputError(PACKED_ON_GPU);
  if (pinnedExperts !== undefined)
    throw new InputError(
      "pinnedExperts keeps pages of files in memory, and with weights: 'packed' all weights are there anyway. Leave out one of the two",
    );
  if (maxMemory !== undefined)
    throw new InputError(
      "maxMemory leaves experts out of memory, and weights: 'packed' has all of them there. Leave out one of the two",
    );
  if (largePage() > 0) return true;
  const remedy =
    process.platform === 'linux'
      ? 'have the administrator write madvise to /sys/kernel/mm/transparent_hugepage/enabled, or leave it out'
      : 'leave it out';
  throw new EngineError(
    `weights: 'packed' has no effect here: this system gives processes no large pages of memory; ${remedy}`,
  );
}
