import { setImmediate } from 'node:timers/promises';
import { abortError, onAbort } from '../errors.ts';
import { ageOf, type Group } from './admission.ts';
import type { Chunk } from './batch.ts';
import type { LogitsBuffer, LogitsBuffers } from './logits-buffers.ts';
import type { PassRequest, PassResult } from './pass.ts';
import { type PassLimits, planPass } from './scheduler.ts';
import type { Sequence } from './sequence.ts';
import type { BackendReader } from './tuning/policy.ts';

/** Asks for the scores after the last tokens of every sequence, `scored` of each, for which its pending tokens are computed. */
export interface ScoreRequest {
  readonly sequences: readonly Sequence[];
  /** How many of the highest logits to list. */
  readonly candidates: number;
  readonly experts: BackendReader;
  readonly signal?: AbortSignal | undefined;
}

/** The scores, in the order of the request's sequences and of their tokens. */
export interface SequenceScores {
  /** [scored tokens, candidates], best first */
  readonly values: Float32Array;
  readonly ids: Int32Array;
  /** MoE layers executed for the request, by experts backend. */
  readonly expertsCalls: Readonly<Record<string, number>>;
  /** All logits, fp32 [scored tokens, vocab]; until `release`. */
  logits(): Promise<Float32Array>;
  /** Gives up the logits. Idempotent. */
  release(): void;
}

/** What a request asks of the cache before a pass. */
export interface CacheSide {
  /** Gives a sequence of which nothing is computed what is known of its first tokens. */
  begin(sequence: Sequence): void;
  /** Those of some groups of sequences for which there is room, or will be. */
  admit<T>(groups: readonly Group<T>[]): T[];
}

/**
 * Runs a pass when its turn has come; `prepare` then says which, or that there is none after all.
 * @throws EngineError; AbortError where the pass's own signal ended it
 */
export type RunPass = (
  prepare: (cache: CacheSide) => Promise<{ pass: PassRequest; signal: AbortSignal | undefined } | undefined>,
) => Promise<PassResult | undefined>;

/** A buffer of one pass, given back once no request needs it. */
class SharedLogits {
  readonly buffer: LogitsBuffer;
  readonly #pool: LogitsBuffers;
  #holders = 0;

  constructor(buffer: LogitsBuffer, pool: LogitsBuffers) {
    this.buffer = buffer;
    this.#pool = pool;
  }

  hold(): void {
    this.#holders++;
  }

  release(): void {
    if (--this.#holders === 0) this.#pool.put(this.buffer);
  }
}

/** A request on its way. */
class Entry {
  readonly request: ScoreRequest;
  readonly scores: Promise<SequenceScores>;
  readonly #values: Float32Array;
  readonly #ids: Int32Array;
  readonly #calls: Record<string, number> = {};
  /** Where the logits of its rows are, by their places; passes fill these in any order. */
  readonly #rows = new Map<number, { readonly logits: SharedLogits; readonly row: number }>();
  #settle!: { resolve: (scores: SequenceScores) => void; reject: (error: unknown) => void };
  /** Ends the listening to the signal. */
  readonly #stop: () => void;
  /** Places of the sequences whose scores are known. */
  readonly #scored = new Set<number>();
  #ended = false;

  constructor(request: ScoreRequest) {
    const rows = request.sequences.reduce((sum, { scored }) => sum + scored, 0);
    this.request = request;
    this.#values = new Float32Array(rows * request.candidates);
    this.#ids = new Int32Array(rows * request.candidates);
    this.scores = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#stop = onAbort(request.signal, this.#abort);
    if (request.signal?.aborted) this.#abort();
  }

  /** Whether it needs no further pass: answered, failed or aborted. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Tokens that each sequence has still to compute. One whose scores are known has none, even if it has lost what it held since: it is
   * computed again when its next scores are asked for.
   */
  get due(): number[] {
    return this.request.sequences.map(({ due }, index) => (this.#scored.has(index) ? 0 : due));
  }

  /** A pass has computed the last tokens of sequence `index`; the logits of those that are scored begin in `row`. */
  take(index: number, logits: SharedLogits, row: number, result: PassResult): void {
    const { sequences } = this.request;
    const first = sequences.slice(0, index).reduce((sum, { scored }) => sum + scored, 0);
    for (let i = 0; i < (sequences[index] as Sequence).scored; i++)
      this.#take(first + i, logits, row + i, result);
    this.#scored.add(index);
  }

  #take(place: number, logits: SharedLogits, row: number, result: PassResult): void {
    const { candidates } = this.request;
    if (candidates > 0 && result.candidates) {
      const { values, ids, count } = result.candidates;
      this.#values.set(values.subarray(row * count, row * count + candidates), place * candidates);
      this.#ids.set(ids.subarray(row * count, row * count + candidates), place * candidates);
    }
    logits.hold();
    this.#rows.set(place, { logits, row });
  }

  /** A pass that it was part of is over. */
  passed({ expertsCalls }: PassResult): void {
    for (const [name, count] of Object.entries(expertsCalls))
      this.#calls[name] = (this.#calls[name] ?? 0) + count;
    if (this.#ended) this.#release();
    if (this.#ended || this.#scored.size < this.request.sequences.length) return;
    this.#end();
    this.#settle.resolve({
      ...{ values: this.#values, ids: this.#ids, expertsCalls: this.#calls },
      logits: () => this.#logits(),
      release: () => this.#release(),
    });
  }

  fail(error: unknown): void {
    this.#release();
    if (this.#ended) return;
    this.#end();
    this.#settle.reject(error);
  }

  readonly #abort = () => this.fail(abortError(this.request.signal as AbortSignal, 'the pass'));

  #end(): void {
    this.#ended = true;
    this.#stop();
  }

  async #logits(): Promise<Float32Array> {
    const rows = [...this.#rows].sort(([a], [b]) => a - b).map(([, row]) => row);
    const [first] = rows;
    const isOne = rows.every(({ logits, row }, i) => logits === first?.logits && row === first.row + i);
    if (first && isOne) return first.logits.buffer.read(first.row, rows.length);
    const parts: Float32Array[] = [];
    for (const { logits, row } of rows) parts.push(await logits.buffer.read(row, 1));
    const width = parts[0]?.length ?? 0;
    const all = new Float32Array(parts.length * width);
    for (const [i, part] of parts.entries()) all.set(part, i * width);
    return all;
  }

  #release(): void {
    const rows = [...this.#rows.values()];
    this.#rows.clear();
    for (const { logits } of rows) logits.release();
  }
}

/**
 * Requests of all generations of a model, which share passes: what waits when a pass ends goes into the next one together. A generation
 * asks for one token after the other, so those that the last pass served are given a moment to come back before the next one starts.
 */
export class RequestQueue {
  readonly #run: RunPass;
  readonly #logits: LogitsBuffers;
  readonly #limits: () => PassLimits;
  #waiting: Entry[] = [];
  #isRunning = false;
  /** Requests served by the last pass whose generations have neither asked again nor ended. */
  #expected = 0;

  /** @param limits of the next pass */
  constructor(run: RunPass, logits: LogitsBuffers, limits: () => PassLimits) {
    this.#run = run;
    this.#logits = logits;
    this.#limits = limits;
  }

  /**
   * @param isNext whether it follows a request that has been served
   * @throws AbortError; EngineError
   */
  ask(request: ScoreRequest, isNext: boolean): Promise<SequenceScores> {
    const entry = new Entry(request);
    if (isNext) this.leave();
    this.#waiting.push(entry);
    if (!this.#isRunning) void this.#runAll();
    return entry.scores;
  }

  /** A generation that was served will not ask again. */
  leave(): void {
    this.#expected = Math.max(0, this.#expected - 1);
  }

  async #runAll(): Promise<void> {
    this.#isRunning = true;
    for (;;) {
      if (this.#expected > 0) await setImmediate();
      this.#waiting = this.#waiting.filter((entry) => !entry.ended);
      if (this.#waiting.length === 0) break;
      await this.#pass();
    }
    this.#isRunning = false;
  }

  async #pass(): Promise<void> {
    let parts: readonly Part[] = [];
    let logits: SharedLogits | undefined;
    // What is in the pass is settled when its turn has come: until then requests come, and are aborted.
    const prepare = async ({ begin, admit }: CacheSide) => {
      this.#waiting = this.#waiting.filter((entry) => !entry.ended);
      for (const { request } of this.#waiting) for (const sequence of request.sequences) begin(sequence);
      const all = this.#plan();
      const sequencesOf = (entry: Entry) =>
        all.filter((part) => part.entry === entry).map((part) => part.sequence);
      const groups = entriesOf(all).map((entry) => ({
        ...{ of: entry, sequences: sequencesOf(entry), together: entry.request.sequences },
      }));
      const admitted = new Set(admit(groups));
      const planned = all.filter(({ entry }) => admitted.has(entry));
      const rows = scoredRows(planned);
      if (rows > 0) logits = new SharedLogits(await this.#logits.take(rows), this.#logits);
      // Held by the pass itself, so that it goes back even where all requests are aborted meanwhile.
      logits?.hold();
      parts = planned.filter(({ entry }) => !entry.ended);
      // What is in the way belongs to a call that takes turns with this: it has to come to one.
      if (parts.length === 0) await setImmediate();
      return parts.length > 0 ? request(parts, logits) : undefined;
    };
    try {
      const result = await this.#run(prepare);
      if (result) distribute(parts, logits, result);
    } catch (error) {
      for (const { entry } of parts.length > 0 ? parts : this.#waiting.map((entry) => ({ entry })))
        entry.fail(error);
    } finally {
      logits?.release();
    }
    this.#expected = entriesOf(parts).filter(({ ended }) => ended).length;
  }

  /** Who gets which tokens of the next pass. */
  #plan(): Part[] {
    // Where the cache is too small for all, the oldest request has to come to its end, or those that give way to one another never would.
    if (this.#waiting.some(({ request }) => request.sequences.some(({ hasGivenWay }) => hasGivenWay)))
      this.#waiting.sort((a, b) => ageOf(a.request.sequences) - ageOf(b.request.sequences));
    const queue = this.#waiting.map(({ request, due }) => ({
      pending: due,
      isWhole: request.sequences.some(({ scored, pending }) => scored > 1 && pending === scored),
      key: request.experts.requested(),
    }));
    return planPass(queue, this.#limits()).flatMap(({ request, tokens }) => {
      const entry = this.#waiting[request] as Entry;
      return tokens.flatMap((count, index) => {
        const sequence = entry.request.sequences[index] as Sequence;
        const isLast = count === sequence.pending;
        return count > 0 ? [{ entry, index, sequence, tokens: count, isLast }] : [];
      });
    });
  }
}

/** A chunk of a request's sequence. */
interface Part extends Chunk {
  readonly entry: Entry;
  /** Place of the sequence in the request. */
  readonly index: number;
  /** Whether it ends with the sequence's last token, whose scores are wanted. */
  readonly isLast: boolean;
}

function entriesOf(parts: readonly Part[]): Entry[] {
  return [...new Set(parts.map(({ entry }) => entry))];
}

/** Rows of logits that a pass over the parts gives. */
function scoredRows(parts: readonly Part[]): number {
  return parts.reduce((sum, { isLast, sequence }) => sum + (isLast ? sequence.scored : 0), 0);
}

function request(parts: readonly Part[], logits: SharedLogits | undefined) {
  const entries = entriesOf(parts);
  const [first] = entries as [Entry, ...Entry[]];
  const tokens = parts.reduce((sum, part) => sum + part.tokens, 0);
  const phase = parts.every(isStep) ? 'decode' : 'prefill';
  const count = scoredRows(parts);
  const pass: PassRequest = {
    ...{ chunks: parts, head: 'logits', intermediates: false },
    wanted: ({ length, scored }, place) => place >= length - scored,
    candidates: Math.max(...entries.map((entry) => entry.request.candidates)),
    logits: logits && count > 0 ? { buffer: logits.buffer, first: 0, count } : undefined,
    experts: first.request.experts.choose({ tokens, phase }),
    kind: first.request.experts.requested(),
  };
  // A pass that serves several goes on for the others when one of them is aborted.
  return { pass, signal: entries.length === 1 ? first.request.signal : undefined };
}

/** Hands a pass's results to those who took part. */
function distribute(parts: readonly Part[], logits: SharedLogits | undefined, result: PassResult): void {
  const last = parts.filter(({ isLast }) => isLast);
  let row = 0;
  for (const { entry, index, sequence } of last) {
    entry.take(index, logits as SharedLogits, row, result);
    row += sequence.scored;
  }
  for (const entry of entriesOf(parts)) entry.passed(result);
}

/** Whether it is one token after a prompt. */
function isStep({ sequence, tokens }: Chunk): boolean {
  return tokens === 1 && sequence.computed >= sequence.prompt.ids.length;
}
