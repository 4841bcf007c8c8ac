/** A certificate as a table for a terminal. */
import type { Certificate } from './certificate.ts';
import type { Comparison } from './compare.ts';
import { NEW_TOKENS } from './run.ts';

export function describeCertificate({
  comparisons,
  tolerances,
  prompts,
  runs,
  checksums,
  verdict,
  faults,
}: Certificate): string {
  const lengths = prompts.map(({ length }) => length).join(', ');
  const rows = comparisons.map(
    ({ a, b, logits, distance, choices, changed, undecided, positions, greedyDiffers, verdict }) => [
      `${a} / ${b}`,
      distance === undefined ? logits.toExponential(1) : `apart ${distance.toFixed(4)}`,
      `${changed} of ${choices}`,
      `${undecided} of ${positions}`,
      greedyDiffers === 0 ? 'same' : `differ in ${greedyDiffers}`,
      verdict,
    ],
  );
  const head = ['ways', 'logits', 'experts changed', 'undecided', 'greedy', 'verdict'];
  const table = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...table.map((row) => (row[column] as string).length)));
  const lines = table.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] as number))
      .join('  ')
      .trimEnd(),
  );
  return [
    `${runs.length} ways in float32, prompts of ${lengths} tokens, ${NEW_TOKENS} greedy tokens after each`,
    ...(rows.length > 0 ? lines : ['one way only; nothing to compare it with']),
    `logits may differ by ${tolerances.logits} of the largest; router logits closer than ${tolerances.tie} are ties, behind which nothing is decided`,
    ...describeDistances(tolerances.distances, comparisons),
    `${Object.keys(checksums.files).length} files and ${Object.keys(checksums.tensors).length} tensors have their SHA-256 in the certificate`,
    ...faults.map((fault) => `FAULT  ${fault}`),
    verdict === 'pass' ? 'all agree' : 'they do not agree',
    '',
  ].join('\n');
}

/** What rounded forms are judged by, where there are any. */
function describeDistances(
  limits: Certificate['tolerances']['distances'],
  comparisons: readonly Comparison[],
): string[] {
  const used = new Set(comparisons.flatMap(({ coarser }) => coarser ?? []));
  if (used.size === 0) return [];
  const each = [...used].map((coarser) => `${limits[coarser]} for ${coarser}`).join(', ');
  return [
    `rounded forms may be apart by ${each}: the root mean square of the difference, beside that of the logits`,
  ];
}
