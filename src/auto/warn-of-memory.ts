import { warn } from '../errors.ts';
import { measureDiskRate } from '../fit/disk-rate.ts';
import type { Needs } from '../fit/needs.ts';
import { judge } from '../fit/verdict.ts';
import type { Repo } from '../hub/types.ts';
import type { Model } from '../models/architecture.ts';
import type { Quantization } from '../quantize/scheme.ts';
import { type MemoryHere, memoryHere } from '../runtime/memory-here.ts';
import { formatBytes } from '../units.ts';
import { modelNeeds } from './model-needs.ts';

/** What of a load decides about memory. */
export interface MemoryQuestion {
  readonly model: Model;
  readonly isQuantized: boolean;
  readonly quantization?: Quantization | undefined;
  readonly onWarning?: ((message: string) => void) | undefined;
}

/**
 * Warns, once, of a model whose weights this process cannot keep in memory, so that each token reads from disk: before its files are
 * fetched. Costs next to nothing where they fit.
 *
 * @param names of the files of weights
 */
export async function warnOfMemory(
  repo: Repo,
  names: readonly string[],
  question: MemoryQuestion,
  memory: MemoryHere = memoryHere(),
): Promise<void> {
  const files = await Promise.all(names.map((name) => repo.look?.(name)));
  const fileBytes = files.reduce((sum, file) => sum + (file?.size ?? 0), 0);
  if (fileBytes <= memory.available / 2) return;
  const { model, isQuantized, quantization, onWarning } = question;
  const needs = modelNeeds(model, { fileBytes, isQuantized, quantization });
  const verdict = needs && judge(needs, { memory: memory.available });
  if (!needs || !verdict || verdict.fits) return;
  const here = files.find((file) => file?.path !== undefined)?.path;
  const rate = here === undefined ? undefined : await measureDiskRate(here);
  warn(`${repo.id}: ${inWords(needs, verdict.fromDisk, memory, rate)}. ${remedy(question)}`, onWarning);
}

function inWords(
  { weights, token }: Needs,
  fromDisk: number,
  { available, limit }: MemoryHere,
  rate: number | undefined,
): string {
  const whose =
    limit === undefined ? 'are free here' : 'are free here, as the control group limits this process';
  const seconds =
    rate === undefined ? '' : `, which takes ${(fromDisk / rate).toPrecision(2)} s at ${formatBytes(rate)}/s`;
  return (
    `the weights take ${formatBytes(weights)} of memory, and ${formatBytes(available)} ${whose}: every token will be read from disk, ` +
    `about ${formatBytes(fromDisk)} of its ${formatBytes(token)}${seconds}`
  );
}

function remedy({ isQuantized, quantization }: MemoryQuestion): string {
  const rest =
    'maxMemory (--max-memory) keeps the experts used most in memory and reads others many at a time; "switchyard models" lists what fits';
  return isQuantized || quantization !== undefined
    ? rest
    : `quantization: 'int4' (--quantize int4) makes a quarter of them; ${rest}`;
}
