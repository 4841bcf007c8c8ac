import { InputError, show } from '../errors.ts';
import { customIdOf, readLines } from './lines.ts';

/** How many lines of repeated ids a message names. */
const MOST_NAMED = 10;

/**
 * How many lines there are to answer.
 * @throws HubError for a file that cannot be read; InputError where lines have the same `custom_id`, by which alone results are known
 */
export async function countRequests(file: string): Promise<number> {
  const first = new Map<string, number>();
  const repeated: string[] = [];
  let repeats = 0;
  let count = 0;
  for await (const { number, text } of readLines(file)) {
    count++;
    const id = customIdOf(text);
    if (id === null) continue;
    const before = first.get(id);
    if (before === undefined) first.set(id, number);
    else if (++repeats <= MOST_NAMED)
      repeated.push(`line ${number} has the custom_id ${show(id)} of line ${before}`);
  }
  if (repeats === 0) return count;
  if (repeats > MOST_NAMED) repeated.push(`and ${repeats - MOST_NAMED} more`);
  throw new InputError(`${file}: ${repeated.join(', ')}; give each request its own`);
}
