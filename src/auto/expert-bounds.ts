/** Which weights a bound on memory leaves out of it: the option `maxMemory` on the CPU. */
import { InputError } from '../errors.ts';
import type { SizedWeight } from '../graph/weight-source.ts';
import { isRoutedExpert, type Model } from '../models/architecture.ts';
import { type MemoryHere, memoryHere } from '../runtime/memory-here.ts';
import type { ExpertBounds } from '../runtime/residency.ts';
import { formatBytes } from '../units.ts';

/**
 * @param maxMemory bytes that the weights may take
 * @param id of the model, for messages
 * @returns undefined where all weights fit
 * @throws InputError where the model has no experts to leave out, or this process cannot have as much memory
 */
export function expertBounds(
  maxMemory: number,
  model: Model,
  weights: readonly SizedWeight[],
  id: string,
  memory: MemoryHere = memoryHere(),
): ExpertBounds | undefined {
  return boundsOf(maxMemory, countBytes(model, weights), id, memory);
}

function boundsOf(
  maxMemory: number,
  { experts, expertBytes, otherBytes }: ReturnType<typeof countBytes>,
  id: string,
  memory: MemoryHere,
): ExpertBounds | undefined {
  const all = otherBytes + expertBytes;
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

/**
 * Looks at a bound before there are the weights, which may take long to make. How their experts lie in memory takes a little more,
 * which the engine counts once they are there.
 *
 * @throws InputError as `expertBounds`, and where there is no room for the experts of one layer
 */
export function checkBound(
  maxMemory: number,
  model: Model,
  weights: readonly SizedWeight[],
  id: string,
): void {
  const counts = countBytes(model, weights);
  if (!boundsOf(maxMemory, counts, id, memoryHere())) return;
  const { otherBytes, largestLayer } = counts;
  const least = otherBytes + largestLayer;
  if (least <= maxMemory) return;
  throw new InputError(
    `maxMemory allows ${formatBytes(maxMemory)} of weights in memory, but ${id} needs more than ${formatBytes(least)} (${least} bytes) once its weights are ` +
      `rounded: ${formatBytes(otherBytes)} that every token reads, and ${formatBytes(largestLayer)} for the experts of one layer. Raise it (--max-memory)`,
  );
}

function countBytes({ work }: Model, weights: readonly SizedWeight[]) {
  const experts = new Set<string>();
  const layers = new Map<number | undefined, number>();
  const bytes = { others: 0, head: 0, table: 0 };
  for (const { name, byteLength } of weights) {
    const use = work.use(name);
    if (isRoutedExpert(use)) {
      experts.add(name);
      layers.set(use.layer, (layers.get(use.layer) ?? 0) + byteLength);
    } else if (use.part === 'embedding') {
      if (use.layer === undefined) bytes.table += byteLength;
    } else if (use.part !== 'unread' && use.part !== 'unknown') {
      bytes.others += byteLength;
      if (use.part === 'head') bytes.head += byteLength;
    }
  }
  return {
    experts,
    expertBytes: [...layers.values()].reduce((a, b) => a + b, 0),
    largestLayer: Math.max(0, ...layers.values()),
    // Of a table only rows are read, unless it is the output head as well.
    otherBytes: bytes.others + (bytes.head > 0 ? 0 : bytes.table),
  };
}
