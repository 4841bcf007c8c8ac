import type { GenerateStats } from '../index.ts';

/** What `--stats` prints after a run. */
export function describeStats(
  stats: GenerateStats,
  experts: Readonly<Record<string, string>>,
  loadSeconds: number,
): string {
  const backends = Object.entries(experts).map(([key, name]) => (key === '' ? name : `${key}=${name}`));
  const calls = Object.entries(stats.expertsCalls).map(([name, count]) => `${count} by ${name}`);
  const rows = [
    ['experts', backends.join(', ')],
    ['MoE calls', calls.join(', ') || 'none'],
    ['load', `${loadSeconds.toFixed(2)} s`],
    ['prompt', pace(stats.promptTokens, stats.prefillMs, stats.prefillTokensPerSecond)],
    ['generated', pace(stats.newTokens, stats.decodeMs, stats.decodeTokensPerSecond)],
  ];
  return rows.map(([label, value]) => `${label?.padEnd(11)}${value}\n`).join('');
}

function pace(tokens: number, ms: number, perSecond: number): string {
  return `${tokens} tokens in ${(ms / 1000).toFixed(3)} s, ${perSecond.toFixed(1)} tokens/s`;
}
