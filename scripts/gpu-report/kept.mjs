// Keeps in a file what the steps of a report found, so that a report can be made in several calls.
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

/**
 * What earlier calls kept.
 * @returns {{ steps: object[], results: object }} empty where there is no file yet, or none is named
 * @throws Error naming the file that is none of ours
 */
export function readKept(file) {
  if (file === undefined || !existsSync(file)) return { steps: [], results: {} };
  try {
    const { steps, results } = JSON.parse(readFileSync(file, 'utf8'));
    if (Array.isArray(steps) && typeof results === 'object' && results !== null) return { steps, results };
  } catch {
    // The same to whoever has to remove it.
  }
  throw new Error(`--results: ${file} was not written by this script; remove it, or name another`);
}

/** Writes them in one step, since a call may be ended at any time. */
export function keep(file, { steps, results }) {
  if (file === undefined) return;
  const part = `${file}.${process.pid}`;
  writeFileSync(part, JSON.stringify({ steps, results }));
  renameSync(part, file);
}

/** The outcomes of earlier calls, but for steps that ran again, in `order`. One that was only left out now keeps its earlier outcome. */
export function mergeSteps(earlier, now, order) {
  const byName = new Map(earlier.map((step) => [step.name, step]));
  for (const step of now)
    if (step.outcome !== 'left out' || !byName.has(step.name)) byName.set(step.name, step);
  return order.flatMap((name) => byName.get(name) ?? []);
}
