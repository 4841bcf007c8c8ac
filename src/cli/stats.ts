import { bytesPerDecodedToken, storageOf, weightWork } from '../bench/work.ts';
import type { ExecutionStats, GenerateStats, Grid } from '../index.ts';
import type { ModelWeights, PinnedExpertsStats } from '../model/model-parts.ts';
import { counted, formatBytes } from '../units.ts';

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
  execution?: ExecutionStats,
  stored?: ModelWeights,
): string {
  const backends = Object.entries(experts).map(([key, name]) => (key === '' ? name : `${key}=${name}`));
  const calls = Object.entries(stats.expertsCalls).map(([name, count]) => `${count} by ${name}`);
  const rows = [
    ['experts', backends.join(', ') + decodeNote(experts, execution)],
    ...(execution ? executionRows(execution) : []),
    ['MoE calls', calls.join(', ') || 'none'],
    ...(stored ? [['weights', describeWeights(stored) + activationsNote(execution)]] : []),
    ['load', `${loadSeconds.toFixed(2)} s`],
    ...pictures.map(({ source, grid, tokens }) => [
      'image',
      `${source}: grid ${grid.join(' × ')}, ${counted(tokens, 'token')}`,
    ]),
    ['prompt', pace(stats.promptTokens, stats.prefillMs, stats.prefillTokensPerSecond)],
    ['generated', pace(stats.newTokens, stats.decodeMs, stats.decodeTokensPerSecond)],
  ];
  return rows.map(([label, value]) => `${label?.padEnd(12)}${value}\n`).join('');
}

/** What weights are stored as, and what a token reads. */
function describeWeights({ weights, work }: ModelWeights): string {
  const { kinds, bits } = storageOf(weights);
  const perToken = bytesPerDecodedToken(weightWork(weights, work));
  return `${kinds.join(', ')}: ${bits.toFixed(2)} bits each, ${formatBytes(perToken)} for a decoded token`;
}

function activationsNote(execution: ExecutionStats | undefined): string {
  return execution?.activationQuantization === 'int8' ? '; what meets codes is rounded to int8' : '';
}

/** Where decode steps run on another backend than was asked for. */
function decodeNote(
  experts: Readonly<Record<string, string>>,
  execution: ExecutionStats | undefined,
): string {
  const asked = experts.text_config ?? experts[''];
  return execution && execution.decodeBackend !== asked ? `; decode by ${execution.decodeBackend}` : '';
}

function executionRows({
  device,
  compileMode,
  tuning,
  graphs,
  residency,
  pinnedExperts,
}: ExecutionStats): string[][] {
  const rows: string[][] = [];
  if (compileMode !== 'default' || graphs) rows.push(['compile', compileMode]);
  if (tuning) {
    const choices = tuning.table.map(({ tokens, backend }) => `${tokens} ${backend}`);
    rows.push([
      'tuned',
      `${choices.join(', ')} (tokens and backend, ${tuning.source === 'cache' ? 'from the cache' : 'measured'})`,
    ]);
  }
  if (graphs) {
    const { captures, replays, fault } = graphs;
    const without = fault === undefined ? '' : `; not by ${fault}`;
    rows.push(['graphs', `${counted(captures, 'step')} recorded, ${replays} replayed${without}`]);
  }
  if (residency) {
    const { residentBytes, hits, fetches, fetchedBytes, readAhead, readAheadWanted, hitRate = 1 } = residency;
    const fetched =
      hits + fetches > 0
        ? `; experts: ${hits} there (${percent(hitRate)}), ${fetches} fetched, ${formatBytes(fetchedBytes)}`
        : '';
    const ahead = readAhead > 0 ? `; ${readAheadWanted} of ${readAhead} read ahead were wanted` : '';
    rows.push([device === 'cpu' ? 'in memory' : 'GPU weights', formatBytes(residentBytes) + fetched + ahead]);
  }
  if (pinnedExperts) rows.push(['pinned', describePinned(pinnedExperts)]);
  return rows;
}

const percent = (share: number) => `${(100 * share).toFixed(1)}%`;

function describePinned({ experts, bytes, lockedBytes, ...rates }: PinnedExpertsStats): string {
  const locked = lockedBytes === bytes ? 'all of it locked' : `${formatBytes(lockedBytes)} of it locked`;
  const { predictedHitRate, hitRate } = rates;
  const measured = hitRate === undefined ? '' : `, ${percent(hitRate)} measured`;
  return `${counted(experts, 'expert')}, ${formatBytes(bytes)}, ${locked}; reads of experts that go to them: ${percent(predictedHitRate)} predicted${measured}`;
}

function pace(tokens: number, ms: number, perSecond: number): string {
  return `${counted(tokens, 'token')} in ${(ms / 1000).toFixed(3)} s, ${perSecond.toFixed(1)} tokens/s`;
}
