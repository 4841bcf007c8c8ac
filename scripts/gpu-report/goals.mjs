// What Switchyard is to reach on a GPU, and whether it did.
import { median, RECORDED } from '../compare/job.mjs';
import { decodeRatios, OURS } from '../compare/summary.mjs';

const LAYOUT = 'separate';
/** Up to so many tokens batched_mm is bound by memory, and from so many on grouped_mm by products. */
const FEW_TOKENS = 16;
const MANY_TOKENS = 4096;
const MOST_SWITCH_SECONDS = 1e-3;
/** Memory comes in pieces of 2 MiB; whatever grows with steps would be more after a thousand. */
const MOST_GROWTH_BYTES = 2 * 2 ** 20;

/**
 * @param results what the steps gave, each undefined where its step did not run: { bench, torch } of tables.mjs, { session } parts by
 *   name, { peers } as compare.mjs writes it with --json
 * @returns {{ goal: string, measured: string, verdict: 'met' | 'missed' | 'not measured' }[]}
 */
export function judge(results) {
  return [
    ...decodeGoals(results),
    loadGoal(results),
    switchGoal(results),
    memoryGoal(results),
    ...kernelGoals(results),
    ...torchGoals(results),
  ];
}

/** @param passed undefined where nothing was measured */
function verdict(goal, measured, passed) {
  if (passed === undefined) return { goal, measured: measured || '–', verdict: 'not measured' };
  return { goal, measured, verdict: passed ? 'met' : 'missed' };
}

function decodeGoals({ peers }) {
  const goals = [
    ['transformers', 3, "decode at least 3 × as fast as transformers' best"],
    ['llama.cpp', 1.2, 'decode at least 1.2 × as fast as llama.cpp'],
  ];
  const ratiosOf = (peer, backend) =>
    decodeRatios(peers?.duels ?? [], backend).find((entry) => entry.peer === peer)?.ratios;
  return goals.map(([peer, least, goal]) => {
    // The better of two ways: steps as they come, and recorded ones.
    const ways = [OURS.backend, `${OURS.backend}${RECORDED}`].flatMap((name) => {
      const ratios = ratiosOf(peer, name);
      return ratios ? [{ name, ratio: median(ratios) }] : [];
    });
    if (ways.length === 0) return verdict(goal);
    const text = ways.map(({ name, ratio }) => `${ratio.toFixed(2)} × (${name})`).join(', ');
    return verdict(goal, text, Math.max(...ways.map(({ ratio }) => ratio)) >= least);
  });
}

function loadGoal({ session, bench }) {
  const goal = 'load at 70 % of the rate of copies from page-locked host memory, or more';
  const { seconds, rate } = session?.load ?? {};
  if (rate === undefined) return verdict(goal);
  const measured = `${(rate / 1e9).toFixed(2)} GB/s, ${seconds.toFixed(2)} s`;
  if (bench?.uploadRate === undefined) return verdict(goal, `${measured}; the copy rate is unknown`);
  const share = rate / 1e9 / bench.uploadRate;
  return verdict(goal, `${percent(share)}: ${measured}, of ${bench.uploadRate} GB/s`, share >= 0.7);
}

function switchGoal({ session }) {
  const goal = 'switching backends costs less than 1 ms';
  const extra = Object.entries(session?.switch?.extra ?? {});
  if (extra.length === 0) return verdict(goal);
  const text = extra.map(([mode, seconds]) => `${(1e3 * seconds).toFixed(3)} ms (${mode} steps)`).join(', ');
  return verdict(goal, text, Math.max(...extra.map(([, seconds]) => seconds)) < MOST_SWITCH_SECONDS);
}

function memoryGoal({ session }) {
  const { steps, before, after } = session?.memory ?? {};
  if (before === undefined) return verdict('no growth of memory with decode steps');
  const text = `${megabytes(before)} before, ${megabytes(after)} after`;
  return verdict(`no growth of memory with ${steps} decode steps`, text, after - before <= MOST_GROWTH_BYTES);
}

function kernelGoals({ bench }) {
  const rows = (bench?.rows ?? []).filter(
    ({ layout, dtype, time }) => layout === LAYOUT && dtype === 'bfloat16' && time !== undefined,
  );
  const goal = (text, backend, fits, share, least) => {
    const shares = rows
      .filter((row) => row.backend === backend && fits(row.tokens))
      .map(share)
      .filter((value) => value !== undefined);
    if (shares.length === 0) return verdict(text);
    return verdict(text, shareRange(shares), Math.min(...shares) >= least);
  };
  const few = (tokens) => tokens <= FEW_TOKENS;
  const many = (tokens) => tokens >= MANY_TOKENS;
  const copy = ({ shareOfCopy }) => shareOfCopy;
  const matrix = ({ shareOfMatrix }) => shareOfMatrix;
  return [
    goal('batched_mm at 80 % of the copy rate for 1 to 16 tokens', 'batched_mm', few, copy, 0.8),
    goal('grouped_mm at 70 % of the matrix rate from 4,096 tokens', 'grouped_mm', many, matrix, 0.7),
  ];
}

function torchGoals({ bench, torch }) {
  const ours = new Map(
    (bench?.rows ?? [])
      .filter(({ layout, dtype, routing, time }) => {
        return layout === LAYOUT && dtype === 'bfloat16' && routing === 'uniform' && time !== undefined;
      })
      .map(({ model, tokens, backend, time }) => [`${model} ${tokens} ${backend}`, time]),
  );
  const ratios = (backend, column) =>
    (torch ?? []).flatMap(({ model, tokens, times }) => {
      const own = ours.get(`${model} ${tokens} ${backend}`);
      return own !== undefined && times[column] !== undefined ? [times[column] / own] : [];
    });
  const goal = (text, list, least) => {
    if (list.length === 0) return verdict(text);
    return verdict(text, ratioRange(list), Math.min(...list) >= least);
  };
  return [
    ...['eager', 'batched_mm', 'grouped_mm'].map((backend) =>
      goal(`${backend} at least 1.3 × as fast as transformers' ${backend}`, ratios(backend, backend), 1.3),
    ),
    goal(
      "grouped_mm at least 1.1 × as fast as torch's grouped_mm",
      ratios('grouped_mm', 'torch grouped_mm'),
      1.1,
    ),
  ];
}

const percent = (share) => `${(100 * share).toFixed(0)} %`;
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function shareRange(shares) {
  return `${percent(Math.min(...shares))} to ${percent(Math.max(...shares))} in ${shares.length} cases`;
}

function ratioRange(ratios) {
  const [least, most] = [Math.min(...ratios), Math.max(...ratios)];
  return `${least.toFixed(2)} × to ${most.toFixed(2)} ×, median ${median(ratios).toFixed(2)} ×, of ${ratios.length} cases`;
}
