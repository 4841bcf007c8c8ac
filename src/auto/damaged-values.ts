/** Values for which a load refuses a checkpoint, all of them, by the checks of a load. */
import { abortIf, CheckpointError } from '../errors.ts';
import { openWeightStore } from '../runtime/weight-store.ts';
import type { ModelCheckpoint } from '../weights/quantized-checkpoint.ts';
import { assertZero } from './surplus-biases.ts';

/** What is looked at in one go: few enough for memory, and to be looked at one by one where something is wrong. */
const AT_ONCE = 64;
/** Faults that are told; a file that is damaged all through has one in every tensor. */
const MOST_FAULTS = 100;

/**
 * Looks at scales, biases, groups of columns and what multiplies scales, of every quantized weight: a few hundredths of the bytes, of
 * which no more are in memory than the system has room for; and at biases that have to be zero.
 * @param surplusBiases of weights that have none in the architecture
 * @returns a sentence for each weight with such values, naming file, tensor, value and remedy
 * @throws AbortError, and whatever keeps files from being read
 */
export async function damagedValues(
  checkpoint: ModelCheckpoint,
  surplusBiases: readonly string[],
  signal?: AbortSignal,
): Promise<string[]> {
  const weights = [...(checkpoint.quantized?.values() ?? [])];
  const faults = await faultsIn(weights, AT_ONCE, signal, async (some) => {
    const store = openWeightStore([], some);
    try {
      await store.checkScales(some.map(({ name }) => name));
    } finally {
      store.dispose();
    }
  });
  return [
    ...faults,
    ...(await faultsIn(surplusBiases, AT_ONCE, signal, (some) => assertZero(checkpoint, some))),
  ];
}

/** What a check of several things says of each of them. */
async function faultsIn<T>(
  all: readonly T[],
  atOnce: number,
  signal: AbortSignal | undefined,
  check: (some: readonly T[]) => Promise<void>,
): Promise<string[]> {
  const faults: string[] = [];
  for (let first = 0; first < all.length && faults.length < MOST_FAULTS; first += atOnce) {
    abortIf(signal, 'the check');
    const some = all.slice(first, first + atOnce);
    const fault = await faultOf(() => check(some));
    if (fault === undefined) continue;
    if (atOnce === 1) faults.push(fault);
    else faults.push(...(await faultsIn(some, 1, signal, check)));
  }
  return faults;
}

async function faultOf(check: () => Promise<void>): Promise<string | undefined> {
  try {
    await check();
  } catch (error) {
    if (error instanceof CheckpointError) return error.message;
    throw error;
  }
  return undefined;
}
