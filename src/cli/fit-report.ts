/** Will it fit? What a model needs beside what this machine has, for people. */
import { EngineError } from '../errors.ts';
import type { Needs } from '../fit/needs.ts';
import { judge, type Verdict } from '../fit/verdict.ts';
import { measureReadBandwidth } from '../runtime/machine.ts';
import { type MemoryHere, memoryHere } from '../runtime/memory-here.ts';
import { formatBytes } from '../units.ts';

/** What `switchyard info --json` says of the machine. Bytes, or bytes a second. */
export interface Fit extends Verdict {
  readonly needs: Needs;
  readonly memory: MemoryHere;
  /** As measured a moment ago, with all threads; absent where the engine does not work. */
  readonly memoryRate?: number;
  /** Of the disk that the weights are on, where they do not fit into memory. */
  readonly diskRate?: number;
}

const BUFFER_BYTES = 256 * 2 ** 20;
const SECONDS = 0.2;

/** Bytes a second that all threads read from memory, measured now; undefined without a working engine. */
export async function readRate(): Promise<number | undefined> {
  try {
    return (await measureReadBandwidth({ bytes: BUFFER_BYTES, seconds: SECONDS })).gigabytesPerSecond * 1e9;
  } catch (error) {
    if (error instanceof EngineError) return undefined;
    throw error;
  }
}

/** @param diskRate measures the disk of the weights; asked only where it matters */
export async function fitHere(
  needs: Needs,
  diskRate: () => Promise<number | undefined> = async () => undefined,
  memory: MemoryHere = memoryHere(),
): Promise<Fit> {
  const memoryRate = await readRate();
  const fits = judge(needs, { memory: memory.available }).fits;
  const measured = fits ? undefined : await diskRate();
  const verdict = judge(needs, { memory: memory.available, memoryRate, diskRate: measured });
  return {
    ...{ needs, memory, ...verdict },
    ...(memoryRate !== undefined && { memoryRate }),
    ...(measured !== undefined && { diskRate: measured }),
  };
}

/** Rows of a table, each a label and a text. */
export function fitRows(fit: Fit): [label: string, text: string][] {
  const { needs, memory } = fit;
  const bound = memory.limit === undefined ? '' : ', as the control group limits this process';
  return [
    [
      'needs',
      `${formatBytes(needs.weights)} for the weights, ${formatBytes(needs.cache)} for ${needs.positions} tokens of context, ` +
        `${formatBytes(needs.working)} besides`,
    ],
    ['memory here', `${formatBytes(memory.total)}, ${formatBytes(memory.available)} of it free${bound}`],
    ['fits', verdictText(fit)],
    ...speedRows(fit),
  ];
}

function verdictText({ fits, fromDisk, needs }: Fit): string {
  if (fits) return 'yes';
  return `no: of the ${formatBytes(needs.token)} that a token reads, about ${formatBytes(fromDisk)} come from disk; "switchyard models" lists what fits`;
}

function speedRows({ tokensPerSecond, needs, memoryRate, diskRate }: Fit): [string, string][] {
  if (tokensPerSecond === undefined || memoryRate === undefined) return [];
  const disk = diskRate === undefined ? '' : `, from disk ${formatBytes(diskRate)}/s`;
  return [
    [
      'speed',
      `up to ${speedText(tokensPerSecond)} tokens/s: ${formatBytes(needs.token)} a token at ${formatBytes(memoryRate)}/s, as measured now${disk}`,
    ],
  ];
}

/** Two digits: it is an estimate. */
export function speedText(tokensPerSecond: number): string {
  return tokensPerSecond >= 100
    ? String(Math.round(tokensPerSecond / 10) * 10)
    : String(Number(tokensPerSecond.toPrecision(2)));
}
