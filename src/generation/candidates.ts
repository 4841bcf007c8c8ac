import { kthHighest, type Shortlist, tieBound } from './shortlist.ts';

/**
 * The tokens a draw may take, in order of id, with their logits. One object serves a whole generation: `count` says how
 * much of its arrays is in use. Tokens that are not listed have no chance.
 */
export class Candidates {
  ids!: Int32Array;
  logits!: Float32Array;
  count = 0;
  /** Scratch of the filters: probability up to a common factor, and rank (lower goes first). */
  weights!: Float64Array;
  ranks!: Float64Array;

  /** @param capacity tokens it will usually hold */
  constructor(capacity: number) {
    this.#allocate(capacity);
  }

  /** Makes room for so many tokens; what it held is lost where there was too little. */
  resize(capacity: number): void {
    if (capacity > this.ids.length) this.#allocate(capacity);
  }

  #allocate(capacity: number): void {
    this.ids = new Int32Array(capacity);
    this.logits = new Float32Array(capacity);
    this.weights = new Float64Array(capacity);
    this.ranks = new Float64Array(capacity);
  }

  /** Highest logit. */
  max(): number {
    let max = -Infinity;
    for (let i = 0; i < this.count; i++) if ((this.logits[i] as number) > max) max = this.logits[i] as number;
    return max;
  }

  /** Fills `weights`; the highest logit has weight 1. Returns their sum. */
  weigh(): number {
    const max = this.max();
    let total = 0;
    for (let i = 0; i < this.count; i++) {
      const logit = this.logits[i] as number;
      const weight = logit === max ? 1 : Math.exp(logit - max);
      this.weights[i] = weight;
      total += weight;
    }
    return total;
  }

  /** Keeps the candidates for whose index `test` holds. */
  keep(test: (index: number) => boolean): void {
    let kept = 0;
    for (let i = 0; i < this.count; i++) {
      if (!test(i)) continue;
      this.logits[kept] = this.logits[i] as number;
      this.ids[kept++] = this.ids[i] as number;
    }
    this.count = kept;
  }
}

/**
 * Fills the candidates from a row of logits: divides by the temperature, then keeps the `topK` highest and all that
 * tie with the last of them (0: all). Logits of −∞ and NaN are no candidates.
 * Source: transformers `TemperatureLogitsWarper`, `TopKLogitsWarper`.
 */
export function fillCandidates(
  candidates: Candidates,
  scores: Float32Array,
  temperature: number,
  topK: number,
): void {
  const kth = topK > 0 && topK < scores.length ? kthHighest(scores, topK) : -Infinity;
  const { last, lowest, lastScaled } = border(kth, temperature);
  let count = 0;
  candidates.resize(scores.length);
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] as number;
    if (!(score > -Infinity && (last === -Infinity || score >= lowest))) continue;
    const scaled = Math.fround(score / temperature);
    if (scaled < lastScaled) continue;
    candidates.ids[count] = id;
    candidates.logits[count++] = scaled;
  }
  candidates.count = count;
}

/**
 * As {@link fillCandidates}, from the highest scores of the row alone.
 *
 * @returns false where scores that are not listed could belong to the candidates; nothing is filled then
 */
export function fillFromTop(
  candidates: Candidates,
  { values, ids, floor }: Shortlist,
  temperature: number,
  topK: number,
): boolean {
  const { last, lowest, lastScaled } = border(values[topK - 1] ?? -Infinity, temperature);
  if (floor > -Infinity && (last === -Infinity || floor >= lowest)) return false;
  const kept: number[] = [];
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (!(value > -Infinity && (last === -Infinity || value >= lowest))) break;
    if (Math.fround(value / temperature) >= lastScaled) kept.push(i);
  }
  kept.sort((a, b) => (ids[a] as number) - (ids[b] as number));
  candidates.resize(kept.length);
  for (const [at, i] of kept.entries()) {
    candidates.ids[at] = ids[i] as number;
    candidates.logits[at] = Math.fround((values[i] as number) / temperature);
  }
  candidates.count = kept.length;
  return true;
}

/** Which scores pass, given the last of the `topK` highest: those of at least `lowest` that are at least `lastScaled` once divided. */
function border(last: number, temperature: number) {
  return { last, lastScaled: Math.fround(last / temperature), lowest: tieBound(last) };
}

/**
 * Keeps the likeliest candidates until their probabilities reach `topP`, at least one; of equal ones the higher id
 * goes first, as in transformers.
 * Source: transformers `TopPLogitsWarper`; Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020).
 */
export function keepTopP(candidates: Candidates, topP: number): void {
  const { logits, ranks, count } = candidates;
  const max = candidates.max();
  for (let i = 0; i < count; i++) {
    const logit = logits[i] as number;
    ranks[i] = logit === max ? 0 : max - logit;
  }
  const last = lastNeeded(candidates, topP * candidates.weigh());
  const lastRank = ranks[last] as number;
  candidates.keep((i) => (ranks[i] as number) < lastRank || (ranks[i] === lastRank && i >= last));
}

/** Keeps the `topK` highest candidates and all that tie with the last of them. */
export function keepTopK(candidates: Candidates, topK: number): void {
  if (topK === 0 || topK >= candidates.count) return;
  const kth = kthHighest(candidates.logits.subarray(0, candidates.count), topK);
  candidates.keep((i) => (candidates.logits[i] as number) >= kth);
}

/** Keeps candidates at least `minP` times as likely as the likeliest. Source: transformers `MinPLogitsWarper`. */
export function keepMinP(candidates: Candidates, minP: number): void {
  candidates.weigh();
  candidates.keep((i) => (candidates.weights[i] as number) >= minP);
}

/**
 * Keeps the candidates whose information content is closest to the entropy, until their probabilities reach
 * `typicalP`. Source: transformers `TypicalLogitsWarper`; Meister et al., "Locally Typical Sampling" (2023).
 */
export function keepTypical(candidates: Candidates, typicalP: number): void {
  const { weights, ranks, count } = candidates;
  const total = candidates.weigh();
  const entropy = entropyOf(candidates, total);
  for (let i = 0; i < count; i++) ranks[i] = -Math.log((weights[i] as number) / total);
  for (let i = 0; i < count; i++) ranks[i] = Math.abs((ranks[i] as number) - entropy);
  const lastRank = ranks[lastNeeded(candidates, typicalP * total)] as number;
  candidates.keep((i) => (ranks[i] as number) <= lastRank);
}

/** Candidates that top-h looks at, as in transformers. */
export const TOP_H_CANDIDATES = 100;

/**
 * Keeps the likeliest candidates until the entropy of what is kept exceeds `topH` times that of the 100 likeliest, at least one.
 * Source: transformers `TopHLogitsWarper`; "Top-H Decoding" (2025).
 */
export function keepTopH(candidates: Candidates, topH: number): void {
  const { logits, weights } = candidates;
  const order = [...logits.subarray(0, candidates.count).keys()]
    .sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)
    .slice(0, TOP_H_CANDIDATES);
  candidates.weigh();
  const total = order.reduce((sum, i) => sum + (weights[i] as number), 0);
  const terms = order.map((i) => {
    const probability = (weights[i] as number) / total;
    return probability > 0 ? -probability * Math.log(probability) : 0;
  });
  const most = topH * terms.reduce((sum, term) => sum + term, 0);
  const kept = new Set<number>();
  let entropy = 0;
  for (const [rank, i] of order.entries()) {
    entropy += terms[rank] as number;
    if (rank > 0 && entropy > most) break;
    kept.add(i);
  }
  candidates.keep((i) => kept.has(i));
}

/**
 * Keeps the likeliest candidates and those of at least this probability.
 * Source: transformers `EpsilonLogitsWarper`; Hewitt et al., "Truncation Sampling as Language Model Desmoothing" (2022).
 */
export function keepEpsilon(candidates: Candidates, epsilon: number): void {
  const least = epsilon * candidates.weigh();
  // The highest logit has weight 1.
  candidates.keep((i) => (candidates.weights[i] as number) >= Math.min(least, 1));
}

/** As `keepEpsilon`, with a lower bound where the distribution is flat. Source: transformers `EtaLogitsWarper`; ibidem. */
export function keepEta(candidates: Candidates, epsilon: number): void {
  const entropy = entropyOf(candidates, candidates.weigh());
  keepEpsilon(candidates, Math.min(epsilon, Math.sqrt(epsilon) * Math.exp(-entropy)));
}

/** In nats. @param total what `weigh` has returned */
function entropyOf({ weights, count }: Candidates, total: number): number {
  let entropy = 0;
  for (let i = 0; i < count; i++) {
    const probability = (weights[i] as number) / total;
    if (probability > 0) entropy -= probability * Math.log(probability);
  }
  return entropy;
}

// Ranks are sorted into buckets up to this distance from the lowest; what lies deeper shares the last bucket. Ranks are
// in nats here, and what is 32 nats less likely than the likeliest does not matter to a sum.
const BUCKETS = 1024;
const DEEPEST = 32;
const sums = new Float64Array(BUCKETS);

/**
 * Index of the last candidate that is needed for the weights to reach `target`, taking lower ranks first and, of equal
 * ones, higher indices. Only the bucket in which the sum is reached needs sorting.
 */
function lastNeeded({ ranks, weights, count }: Candidates, target: number): number {
  let [lowest, highest] = [Infinity, -Infinity];
  for (let i = 0; i < count; i++) {
    const rank = ranks[i] as number;
    if (rank < lowest) lowest = rank;
    if (rank > highest) highest = rank;
  }
  const perUnit = BUCKETS / Math.max(Number.MIN_VALUE, Math.min(DEEPEST, highest - lowest));
  const bucketOf = (rank: number) =>
    rank === lowest ? 0 : Math.min(BUCKETS - 1, Math.floor((rank - lowest) * perUnit));
  sums.fill(0);
  for (let i = 0; i < count; i++) {
    const bucket = bucketOf(ranks[i] as number);
    sums[bucket] = (sums[bucket] as number) + (weights[i] as number);
  }
  let border = 0;
  let sum = 0;
  while (border < BUCKETS - 1 && sum + (sums[border] as number) < target) sum += sums[border++] as number;

  const members: number[] = [];
  for (let i = 0; i < count; i++) if (bucketOf(ranks[i] as number) === border) members.push(i);
  members.sort((a, b) => (ranks[a] as number) - (ranks[b] as number) || b - a);
  for (const member of members) {
    sum += weights[member] as number;
    if (sum >= target) return member;
  }
  // Rounding can leave the sum a hair below a target of the whole: then everything is needed.
  return members.at(-1) ?? ranks.subarray(0, count).indexOf(highest);
}

/** The candidate at point `u` in [0, 1) of the cumulative distribution, in order of id. */
export function drawCandidate(candidates: Candidates, u: number): number {
  let rest = u * candidates.weigh();
  for (let i = 0; i < candidates.count; i++) {
    rest -= candidates.weights[i] as number;
    if (rest < 0) return candidates.ids[i] as number;
  }
  return candidates.ids[candidates.count - 1] as number;
}
