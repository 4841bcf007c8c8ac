/**
 * Certificates: JSON files that say how a checkpoint was run, what came of it, and whether all ways agree. What
 * `scripts/reference.py` writes with transformers is the same without comparisons, so that either can be the reference of another.
 */
import { z } from 'zod';
import { InputError, issueText } from '../errors.ts';
import { reading, unwritable, writeWholeFile } from '../files.ts';
import { readJsonFile } from '../json.ts';
import type { Checksums } from './checksums.ts';
import type { Coarseness, Comparison, Tolerances } from './compare.ts';
import type { Run } from './run.ts';

const FORMAT = 'switchyard-certificate';
const VERSION = 1;

const numbers = z.array(z.number());
const ids = z.array(z.int().min(0));
const promptRun = z.object({
  logits: z.array(numbers),
  logsumexp: numbers,
  argmax: ids,
  experts: z.array(z.array(ids)),
  margins: z.array(numbers),
  greedy: ids,
});
const sums = z.record(z.string(), z.string());
const schema = z.object({
  format: z.literal(FORMAT),
  version: z.literal(VERSION),
  model: z.string(),
  /** Decoder layers that were run; absent for all. */
  layers: z.int().min(1).optional(),
  prompts: z.array(ids.min(1)).min(1),
  runs: z.array(z.object({ name: z.string(), prompts: z.array(promptRun) })).min(1),
  checksums: z.object({ files: sums.optional(), tensors: sums.optional() }).default({}),
});

/** What a reference must say. */
export interface Reference {
  readonly model: string;
  readonly layers?: number | undefined;
  readonly prompts: readonly (readonly number[])[];
  readonly runs: readonly Run[];
  readonly checksums: Partial<Checksums>;
}

export interface Certificate extends Reference {
  readonly format: typeof FORMAT;
  readonly version: typeof VERSION;
  readonly commit?: string;
  readonly architecture: string;
  readonly checksums: Checksums;
  /** Versions, processor, precision and time. */
  readonly made: Readonly<Record<string, string | number>>;
  readonly tolerances: Tolerances & { readonly distances: Readonly<Record<Coarseness, number>> };
  readonly comparisons: readonly Comparison[];
  /** Everything that is wrong, a sentence each. */
  readonly faults: readonly string[];
  readonly verdict: 'pass' | 'fail';
}

export function makeCertificate(content: Omit<Certificate, 'format' | 'version' | 'verdict'>): Certificate {
  const verdict = content.faults.length === 0 ? 'pass' : 'fail';
  return { format: FORMAT, version: VERSION, ...content, verdict };
}

/** @throws InputError naming file and field for what is no reference */
export async function readReference(file: string): Promise<Reference> {
  const json = await reading(file, () => readJsonFile(file));
  const parsed = schema.safeParse(json);
  if (!parsed.success)
    throw new InputError(
      `${file} is no reference: ${issueText(parsed.error.issues[0] as z.core.$ZodIssue, json)}. scripts/reference.py writes one with transformers, ` +
        '"switchyard verify MODEL --backends all --certificate FILE" one of Switchyard',
    );
  const { data } = parsed;
  const uneven = data.runs.find(({ prompts }) => prompts.length !== data.prompts.length);
  if (uneven)
    throw new InputError(
      `${file}: run "${uneven.name}" has ${uneven.prompts.length} prompts instead of ${data.prompts.length}`,
    );
  return data as Reference;
}

/** @throws InputError where it cannot be written */
export async function writeCertificate(file: string, certificate: Certificate): Promise<void> {
  try {
    await writeWholeFile(file, `${JSON.stringify(certificate)}\n`);
  } catch (error) {
    throw unwritable(file, error, 'Name another file');
  }
}
