/**
 * The tokens a draw may take, in order of id, with their logits. One object serves a whole generation: its arrays are
 * as long as the vocabulary and `count` says how much of them is in use. Tokens that are not listed have no chance.
 */
export class Candidates {
  readonly ids: Int32Array;
  readonly logits: Float32Array;
  count = 0;
  /** Scratch for sums over buckets; see `keepTopP`. */
  readonly buckets = new Float64Array(BUCKETS);

  constructor(vocabSize: number) {
    this.ids = new Int32Array(vocabSize);
    this.logits = new Float32Array(vocabSize);
  }

  /** Highest logit. */
  max(): number {
    let max = -Infinity;
    for (let i = 0; i < this.count; i++) if ((this.logits[i] as number) > max) max = this.logits[i] as number;
    return max;
  }

  /** Keeps the candidates for which `test` holds. */
  keep(test: (logit: number, id: number) => boolean): void {
    let kept = 0;
    for (let i = 0; i < this.count; i++) {
      const logit = this.logits[i] as number;
      const id = this.ids[i] as number;
      if (!test(logit, id)) continue;
      this.logits[kept] = logit;
      this.ids[kept++] = id;
    }
    this.count = kept;
  }
}

// Logits are sorted into buckets by distance from the highest, at most this deep. What lies deeper has less than e^−32
// of the highest probability and shares the last bucket.
const BUCKETS = 1024;
const DEEPEST = 32;

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
  const last = topK > 0 && topK < scores.length ? kthHighest(scores, topK) : -Infinity;
  // The division can round two different logits to one, so that a slightly lower one ties with the last.
  const lastScaled = Math.fround(last / temperature);
  const lowest = last - Math.abs(last) * 1e-6;
  let count = 0;
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

/** The k-th highest value, or −∞ where there are fewer above −∞: a heap of the k highest seen, its lowest on top. */
function kthHighest(scores: Float32Array, k: number): number {
  const heap = new Float32Array(k).fill(-Infinity);
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] as number;
    if (score > (heap[0] as number)) replaceTop(heap, score);
  }
  return heap[0] as number;
}

function replaceTop(heap: Float32Array, value: number): void {
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && (heap[child + 1] as number) < (heap[child] as number)) child++;
    if ((heap[child] as number) >= value) break;
    heap[at] = heap[child] as number;
    at = child;
  }
  heap[at] = value;
}

/** Probability up to a common factor; the highest logit has weight 1. */
function weight(logit: number, max: number): number {
  return logit === max ? 1 : Math.exp(logit - max);
}

/**
 * Keeps the likeliest candidates until their probabilities reach `topP`, at least one; of equal ones the higher id
 * goes first, as in transformers. Only the bucket in which the sum is reached needs sorting.
 * Source: transformers `TopPLogitsWarper`; Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020).
 */
export function keepTopP(candidates: Candidates, topP: number): void {
  const max = candidates.max();
  const min = candidates.logits
    .subarray(0, candidates.count)
    .reduce((least, logit) => Math.min(least, logit), max);
  const perUnit = BUCKETS / Math.min(DEEPEST, max - min);
  const bucketOf = (logit: number) =>
    logit === max ? 0 : Math.min(BUCKETS - 1, Math.floor((max - logit) * perUnit));
  const sums = candidates.buckets.fill(0);
  let total = 0;
  for (let i = 0; i < candidates.count; i++) {
    const logit = candidates.logits[i] as number;
    const w = weight(logit, max);
    const bucket = bucketOf(logit);
    sums[bucket] = (sums[bucket] as number) + w;
    total += w;
  }
  const target = topP * total;
  let border = 0;
  let sum = 0;
  while (border < BUCKETS - 1 && sum + (sums[border] as number) < target) sum += sums[border++] as number;
  const [lastLogit, lastId] = lastInBucket(
    candidates,
    (logit) => bucketOf(logit) === border,
    sum,
    target,
    max,
  );
  candidates.keep((logit, id) => logit > lastLogit || (logit === lastLogit && id >= lastId));
}

/** The last candidate of the border bucket that is still needed to reach the target. */
function lastInBucket(
  candidates: Candidates,
  inBucket: (logit: number) => boolean,
  sumBefore: number,
  target: number,
  max: number,
): [logit: number, id: number] {
  const members: [logit: number, id: number][] = [];
  for (let i = 0; i < candidates.count; i++) {
    const logit = candidates.logits[i] as number;
    if (inBucket(logit)) members.push([logit, candidates.ids[i] as number]);
  }
  members.sort((a, b) => b[0] - a[0] || b[1] - a[1]);
  let sum = sumBefore;
  for (const member of members) {
    sum += weight(member[0], max);
    if (sum >= target) return member;
  }
  // Rounding can leave the sum a hair below a target of the whole.
  return members.at(-1) ?? [-Infinity, 0];
}

/** Keeps candidates at least `minP` times as likely as the likeliest. Source: transformers `MinPLogitsWarper`. */
export function keepMinP(candidates: Candidates, minP: number): void {
  const max = candidates.max();
  candidates.keep((logit) => weight(logit, max) >= minP);
}

/**
 * Keeps the candidates whose information content is closest to the entropy, until their probabilities reach
 * `typicalP`. Source: transformers `TypicalLogitsWarper`; Meister et al., "Locally Typical Sampling" (2023).
 */
export function keepTypical(candidates: Candidates, typicalP: number): void {
  const probabilities = probabilitiesOf(candidates);
  const information = probabilities.map((p) => -Math.log(p));
  const entropy = probabilities.reduce((sum, p, i) => sum + (p > 0 ? p * (information[i] as number) : 0), 0);
  const distance = information.map((content) => Math.abs(content - entropy));
  const order = Array.from(distance.keys()).sort((a, b) => (distance[a] as number) - (distance[b] as number));
  let sum = 0;
  let farthest = 0;
  for (const i of order) {
    farthest = distance[i] as number;
    sum += probabilities[i] as number;
    if (sum >= typicalP) break;
  }
  let i = 0;
  candidates.keep(() => (distance[i++] as number) <= farthest);
}

/** Probabilities of the candidates, in their order. */
export function probabilitiesOf(candidates: Candidates): Float64Array {
  const max = candidates.max();
  const weights = Float64Array.from(candidates.logits.subarray(0, candidates.count), (logit) =>
    weight(logit, max),
  );
  const total = weights.reduce((sum, w) => sum + w, 0);
  return weights.map((w) => w / total);
}

/** The candidate at point `u` in [0, 1) of the cumulative distribution, in order of id. */
export function drawCandidate(candidates: Candidates, u: number): number {
  const max = candidates.max();
  let total = 0;
  for (let i = 0; i < candidates.count; i++) total += weight(candidates.logits[i] as number, max);
  let rest = u * total;
  for (let i = 0; i < candidates.count; i++) {
    rest -= weight(candidates.logits[i] as number, max);
    if (rest < 0) return candidates.ids[i] as number;
  }
  return candidates.ids[candidates.count - 1] as number;
}
