/** Which weights a bound on memory leaves out of it: the option `maxMemory` on the CPU. */
import { InputError } from '../errors.ts';
import { isRoutedExpert, type Model } from '../models/architecture.ts';
import { type MemoryHere, memoryHere } from '../runtime/memory-here.ts';
import type { ExpertBounds } from '../runtime/residency.ts';
import { formatBytes } from '../units.ts';
import { type ModelCheckpoint, storedWeights } from '../weights/quantized-checkpoint.ts';

/**
 * @param maxMemory bytes that the weights may take
 * @param id of the model, for messages
 * @returns undefined where all weights fit
 * @throws InputError where the model has no experts to leave out, or this process cannot have as much memory
 */
export function expertBounds(
  maxMemory: number,
  model: Model,
  checkpoint: ModelCheckpoint,
  id: string,
  memory: MemoryHere = memoryHere(),
): ExpertBounds | undefined {
  const experts = new Set<string>();
  const bytes = { experts: 0, others: 0, head: 0, table: 0 };
  for (const { name, byteLength } of storedWeights(checkpoint)) {
    const use = model.work.use(name);
    if (isRoutedExpert(use)) {
      experts.add(name);
      bytes.experts += byteLength;
    } else if (use.part === 'embedding') {
      if (use.layer === undefined) bytes.table += byteLength;
    } else if (use.part !== 'unread' && use.part !== 'unknown') {
      bytes.others += byteLength;
      if (use.part === 'head') bytes.head += byteLength;
    }
  }
  // Of a table only rows are read, unless it is the output head as well.
  const otherBytes = bytes.others + (bytes.head > 0 ? 0 : bytes.table);
  const all = otherBytes + bytes.experts;
  if (all <= maxMemory) return undefined;
  if (experts.size === 0)
    throw new InputError(
      `maxMemory keeps weights below ${formatBytes(maxMemory)} by leaving experts on the disk, and ${id}, which has ${formatBytes(all)} of them, ` +
        'has no experts that only some tokens go to. Leave it out (--max-memory)',
    );
  if (maxMemory > memory.available)
    throw new InputError(
      `maxMemory is ${formatBytes(maxMemory)}, and this process can have ${formatBytes(memory.available)}` +
        `${memory.limit === undefined ? '' : ', as its control group limits it'}. Lower it (--max-memory), and leave some for the cache`,
    );
  return { maxBytes: maxMemory, otherBytes, experts };
}
