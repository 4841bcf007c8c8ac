/** Routing statistics as text for a terminal. */
import type { LayerDifference, RoutingStatistics } from './statistics.ts';

/** Sizes of an experts cache that are worth a line: shares of all experts. */
const CACHE_SHARES = [1 / 8, 1 / 4, 1 / 2, 3 / 4];

const percent = (share: number) => `${(100 * share).toFixed(1)}%`;

/** How many experts a layer could keep, and how often a use would find its own there. */
export function cacheSizes({ header, hitRate }: RoutingStatistics): { experts: number; rate: number }[] {
  const sizes = CACHE_SHARES.map((share) => Math.max(1, Math.round(share * header.experts)));
  return [...new Set(sizes)].map((experts) => ({ experts, rate: hitRate[experts] as number }));
}

export function describeRouting(statistics: RoutingStatistics): string {
  const { header, tokens, layers, pinning, workingSet, batches, bytes } = statistics;
  const lines = [
    `${header.model} (${header.modelType}, ${header.dtype}, ${header.backend}): ${header.layers.length} layers of ${header.experts} experts, ${header.perToken} a token`,
    `requests: ${statistics.requests}; passes: ${statistics.passes}; tokens: ${tokens.prefill} of prompts, ${tokens.decode} after them`,
    '',
    'layer  entropy   Jain  unused  busiest',
  ];
  for (const load of layers) {
    const total = load.tokens.reduce((a, b) => a + b, 0);
    const most = load.tokens.reduce((best, n, i) => (n > (load.tokens[best] as number) ? i : best), 0);
    const busiest = total === 0 ? '-' : `${most} (${percent((load.tokens[most] as number) / total)})`;
    lines.push(
      `${String(load.layer).padStart(5)}  ${load.entropy.toFixed(4)}  ${load.jain.toFixed(4)}  ${String(load.dead).padStart(6)}  ${busiest}`,
    );
  }
  lines.push('', 'a cache of experts a layer would find');
  for (const { experts, rate } of cacheSizes(statistics))
    lines.push(`${String(experts).padStart(5)}  ${percent(rate)}`);
  lines.push('', 'the busiest experts of all layers, pinned (--pin-experts), would serve of all reads');
  for (const { experts, bytes: size, share } of pinning)
    lines.push(`${String(experts).padStart(5)}  ${percent(share)}, ${megabytes(size)} MB`);
  lines.push('', 'tokens in a row need different experts a layer');
  for (const { tokens: width, experts } of workingSet)
    lines.push(`${String(width).padStart(5)}  ${experts.toFixed(1)}`);
  if (batches.length > 0) {
    lines.push('', 'rows decoded together need different experts a layer (by chance)');
    for (const { rows, passes, distinct, expected } of batches)
      lines.push(
        `${String(rows).padStart(5)}  ${distinct.toFixed(1)} (${expected.toFixed(1)}), ${passes} passes`,
      );
    lines.push(
      '',
      `experts read a pass: ${megabytes(bytes.perPass)} MB (by chance ${megabytes(bytes.expected)} MB)`,
    );
  }
  return `${lines.join('\n')}\n`;
}

export function describeDifference(differences: readonly LayerDifference[] | undefined): string {
  if (!differences)
    return '\nThe files are of models with other layers or experts; they cannot be compared\n';
  const lines = ['', 'against the second file', 'layer  divergence  same choice'];
  for (const { layer, divergence, agreement } of differences)
    lines.push(
      `${String(layer).padStart(5)}  ${divergence.toFixed(4).padStart(10)}  ${agreement === undefined ? 'no token of both' : percent(agreement)}`,
    );
  return `${lines.join('\n')}\n`;
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
