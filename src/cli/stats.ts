import type { GenerateStats, Grid } from '../index.ts';

/** A picture of the prompt: its grid of patches (time, height, width) and the tokens it takes. */
export interface Picture {
  readonly source: string;
  readonly grid: Grid;
  readonly tokens: number;
}

/** What `--stats` prints after a run. */
export function describeStats(
  stats: GenerateStats,
  experts: Readonly<Record<string, string>>,
  loadSeconds: number,
  pictures: readonly Picture[] = [],
): string {
  const backends = Object.entries(experts).map(([key, name]) => (key === '' ? name : `${key}=${name}`));
  const calls = Object.entries(stats.expertsCalls).map(([name, count]) => `${count} by ${name}`);
  const rows = [
    ['experts', backends.join(', ')],
    ['MoE calls', calls.join(', ') || 'none'],
    ['load', `${loadSeconds.toFixed(2)} s`],
    ...pictures.map(({ source, grid, tokens }) => [
      'image',
      `${source}: grid ${grid.join(' × ')}, ${tokens} tokens`,
    ]),
    ['prompt', pace(stats.promptTokens, stats.prefillMs, stats.prefillTokensPerSecond)],
    ['generated', pace(stats.newTokens, stats.decodeMs, stats.decodeTokensPerSecond)],
  ];
  return rows.map(([label, value]) => `${label?.padEnd(11)}${value}\n`).join('');
}

function pace(tokens: number, ms: number, perSecond: number): string {
  return `${tokens} tokens in ${(ms / 1000).toFixed(3)} s, ${perSecond.toFixed(1)} tokens/s`;
}
