/** What routing records say of the experts: how evenly they work, and how few of them would do. */
import type { RoutingFile } from './file.ts';
import { hottestExperts, readShare } from './hottest.ts';
import { NOT_ROUTED, type RoutingHeader, type RoutingRecord } from './record.ts';

/** How the tokens of a layer fall on its experts. */
export interface LayerLoad {
  /** Index of the layer. */
  readonly layer: number;
  /** Tokens by expert. */
  readonly tokens: Float64Array;
  /** Entropy of the shares divided by that of equal ones: 1 is even, 0 is one expert for everything. */
  readonly entropy: number;
  /** Jain's fairness index of the shares (Jain, Chiu, Hawe 1984): 1 is even, 1 / experts is one expert for everything. */
  readonly jain: number;
  /** Experts that no token went to. */
  readonly dead: number;
}

/** Passes of the same number of decoding rows. */
export interface BatchOverlap {
  readonly rows: number;
  readonly passes: number;
  /** Different experts that a layer of a pass needs, on average. */
  readonly distinct: number;
  /** What it would be if every token chose at random: E · (1 − (1 − k/E)^rows). */
  readonly expected: number;
}

export interface RoutingStatistics {
  readonly header: RoutingHeader;
  readonly requests: number;
  readonly passes: number;
  /** Tokens of prompts, and after them. */
  readonly tokens: { readonly prefill: number; readonly decode: number };
  readonly layers: readonly LayerLoad[];
  /**
   * Share of an expert's uses, by layers on average, that a cache of so many experts a layer would find there, the least recently used giving
   * way: index n for n experts, from 0 to all.
   */
  readonly hitRate: Float64Array;
  /** Share of all reads of experts that go to so many of the busiest, which `--pin-experts` keeps at hand: a few sizes, ascending. */
  readonly pinning: readonly { readonly experts: number; readonly bytes: number; readonly share: number }[];
  /** Different experts that so many tokens of one request in a row need, a layer on average. */
  readonly workingSet: readonly { readonly tokens: number; readonly experts: number }[];
  readonly batches: readonly BatchOverlap[];
  /** Bytes of experts that a decoding pass reads, on average, and by the formula of `BatchOverlap`. */
  readonly bytes: { readonly perPass: number; readonly expected: number };
}

/** Parts of all experts that are worth a line. */
const PINNED_SHARES = [1 / 16, 1 / 8, 1 / 4, 1 / 2];

const WINDOWS = [1, 2, 4, 8, 16, 32, 64, 128];

export function routingStatistics({ header, records }: RoutingFile): RoutingStatistics {
  const count = (phase: RoutingRecord['phase']) =>
    records.filter((record) => record.phase === phase).reduce((sum, { tokens }) => sum + tokens, 0);
  const batches = overlaps(header, records);
  const passes = batches.reduce((sum, batch) => sum + batch.passes, 0);
  const perPass = (of: (batch: BatchOverlap) => number) =>
    passes === 0
      ? 0
      : (batches.reduce((sum, batch) => sum + of(batch) * batch.passes, 0) / passes) *
        header.layers.length *
        header.expertBytes;
  return {
    header,
    requests: new Set(records.map(({ request }) => request)).size,
    passes: new Set(records.map(({ pass }) => pass)).size,
    tokens: { prefill: count('prefill'), decode: count('decode') },
    layers: header.layers.map((layer, place) => loadOf(layer, tokensByExpert(header, records, place))),
    hitRate: hitRates(header, records),
    pinning: pinnings({ header, records }),
    workingSet: workingSets(header, records),
    batches,
    bytes: { perPass: perPass(({ distinct }) => distinct), expected: perPass(({ expected }) => expected) },
  };
}

/** The experts of one token in one layer, best first; none where the layer did not compute it. */
export function chosen(
  { layers, perToken }: RoutingHeader,
  { experts }: RoutingRecord,
  token: number,
  place: number,
): Uint16Array {
  const first = (token * layers.length + place) * perToken;
  return experts[first] === NOT_ROUTED ? experts.subarray(0, 0) : experts.subarray(first, first + perToken);
}

function groupBy<T, K>(items: readonly T[], keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

/** Calls `see` with the experts of every token that a layer computed, in order. */
function eachToken(
  header: RoutingHeader,
  records: readonly RoutingRecord[],
  place: number,
  see: (experts: Uint16Array, record: RoutingRecord) => void,
): void {
  for (const record of records)
    for (let token = 0; token < record.tokens; token++) {
      const experts = chosen(header, record, token, place);
      if (experts.length > 0) see(experts, record);
    }
}

function tokensByExpert(
  header: RoutingHeader,
  records: readonly RoutingRecord[],
  place: number,
): Float64Array {
  const tokens = new Float64Array(header.experts);
  eachToken(header, records, place, (experts) => {
    for (const expert of experts) tokens[expert] = (tokens[expert] as number) + 1;
  });
  return tokens;
}

/** @param tokens by expert */
export function loadOf(layer: number, tokens: Float64Array): LayerLoad {
  const total = tokens.reduce((a, b) => a + b, 0);
  const squares = tokens.reduce((sum, n) => sum + n * n, 0);
  let bits = 0;
  for (const n of tokens) if (n > 0) bits -= (n / total) * Math.log2(n / total);
  return {
    layer,
    tokens,
    entropy: total === 0 ? 0 : tokens.length === 1 ? 1 : bits / Math.log2(tokens.length),
    jain: total === 0 ? 0 : (total * total) / (tokens.length * squares),
    dead: tokens.filter((n) => n === 0).length,
  };
}

/**
 * By the distance of every use in a stack of the experts last used (Mattson and others 1970): a cache of n finds what lies among the
 * first n.
 */
function hitRates(header: RoutingHeader, records: readonly RoutingRecord[]): Float64Array {
  const found = new Float64Array(header.experts);
  let uses = 0;
  for (const place of header.layers.keys()) {
    const stack: number[] = [];
    eachToken(header, records, place, (experts) => {
      for (const expert of experts) {
        const at = stack.indexOf(expert);
        if (at >= 0) {
          found[at] = (found[at] as number) + 1;
          stack.splice(at, 1);
        }
        stack.unshift(expert);
        uses++;
      }
    });
  }
  const rates = new Float64Array(header.experts + 1);
  for (let n = 1; n <= header.experts; n++)
    rates[n] = (rates[n - 1] as number) + (uses === 0 ? 0 : (found[n - 1] as number) / uses);
  return rates;
}

function workingSets(header: RoutingHeader, records: readonly RoutingRecord[]) {
  const sums = WINDOWS.map(() => ({ windows: 0, experts: 0 }));
  const requests = groupBy(records, ({ request }) => request);
  for (const own of requests.values())
    for (const place of header.layers.keys()) {
      const tokens: Uint16Array[] = [];
      eachToken(header, own, place, (experts) => tokens.push(experts));
      for (const [i, width] of WINDOWS.entries())
        for (let first = 0; first + width <= tokens.length; first += width) {
          const sum = sums[i] as { windows: number; experts: number };
          sum.windows++;
          sum.experts += new Set(tokens.slice(first, first + width).flatMap((experts) => [...experts])).size;
        }
    }
  return WINDOWS.flatMap((tokens, i) => {
    const { windows, experts } = sums[i] as { windows: number; experts: number };
    return windows === 0 ? [] : [{ tokens, experts: experts / windows }];
  });
}

function pinnings(file: RoutingFile): RoutingStatistics['pinning'] {
  const { layers, experts: each, expertBytes } = file.header;
  const hottest = hottestExperts(file);
  const sizes = PINNED_SHARES.map((part) => Math.max(1, Math.round(part * layers.length * each)));
  return [...new Set(sizes)].map((experts) => ({
    ...{ experts, bytes: experts * expertBytes },
    share: readShare(hottest, experts),
  }));
}

/** Of passes in which every row is one token after its prompt. */
function overlaps(header: RoutingHeader, records: readonly RoutingRecord[]): BatchOverlap[] {
  const { experts: total, perToken } = header;
  const sums = new Map<number, { passes: number; distinct: number }>();
  for (const rows of groupBy(records, ({ pass }) => pass).values()) {
    if (!rows.every(({ phase, tokens }) => phase === 'decode' && tokens === 1)) continue;
    const distinct = header.layers.map((_, place) => {
      const used = new Set<number>();
      eachToken(header, rows, place, (experts) => {
        for (const expert of experts) used.add(expert);
      });
      return used.size;
    });
    const sum = sums.get(rows.length) ?? { passes: 0, distinct: 0 };
    sum.passes++;
    sum.distinct += distinct.reduce((a, b) => a + b, 0) / distinct.length;
    sums.set(rows.length, sum);
  }
  return [...sums]
    .sort(([a], [b]) => a - b)
    .map(([rows, { passes, distinct }]) => ({
      ...{ rows, passes, distinct: distinct / passes },
      expected: total * (1 - (1 - perToken / total) ** rows),
    }));
}

/** How two files differ in one layer. */
export interface LayerDifference {
  readonly layer: number;
  /** Jensen-Shannon divergence of the loads in bits: 0 where they are alike, 1 where no expert serves both. */
  readonly divergence: number;
  /** Share of the experts that both chose for the same token, of tokens that both have; undefined where they have none. */
  readonly agreement: number | undefined;
}

/** @returns undefined where the files are of models with other layers or experts */
export function compareRouting(a: RoutingFile, b: RoutingFile): readonly LayerDifference[] | undefined {
  const sameShape = a.header.experts === b.header.experts && `${a.header.layers}` === `${b.header.layers}`;
  if (!sameShape) return undefined;
  return a.header.layers.map((layer, place) => ({
    layer,
    divergence: divergence(
      tokensByExpert(a.header, a.records, place),
      tokensByExpert(b.header, b.records, place),
    ),
    agreement: agreement(a, b, place),
  }));
}

function divergence(a: Float64Array, b: Float64Array): number {
  const share = (counts: Float64Array) => {
    const total = counts.reduce((x, y) => x + y, 0) || 1;
    return counts.map((n) => n / total);
  };
  const [p, q] = [share(a), share(b)];
  let bits = 0;
  for (let i = 0; i < p.length; i++) {
    const [x, y] = [p[i] as number, q[i] as number];
    const middle = (x + y) / 2;
    if (x > 0) bits += (x / 2) * Math.log2(x / middle);
    if (y > 0) bits += (y / 2) * Math.log2(y / middle);
  }
  return Math.max(0, bits);
}

/** Tokens are the same that have the same place in the same request. */
function agreement(a: RoutingFile, b: RoutingFile, place: number): number | undefined {
  const places = ({ header, records }: RoutingFile) => {
    const all = new Map<string, Uint16Array>();
    for (const record of records)
      for (let token = 0; token < record.tokens; token++) {
        const experts = chosen(header, record, token, place);
        if (experts.length > 0) all.set(`${record.request} ${record.start + token}`, experts);
      }
    return all;
  };
  const others = places(b);
  let [same, all] = [0, 0];
  for (const [key, experts] of places(a)) {
    const other = others.get(key);
    if (!other) continue;
    all += Math.max(experts.length, other.length);
    same += experts.filter((expert) => other.includes(expert)).length;
  }
  return all === 0 ? undefined : same / all;
}
