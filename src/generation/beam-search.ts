import { abortIf } from '../errors.ts';
import type { GenerationRun } from './generation-run.ts';
import { type ScoreProcessor, scoreProcessors } from './logits-processors.ts';
import { logSumExp } from './logprobs.ts';
import type { Row } from './row.ts';
import { editAll } from './score-edits.ts';
import { highest } from './shortlist.ts';
import type { Decoding, Scores } from './types.ts';

/** What keeps a score out of every comparison, as in transformers. */
const OUT = -1e9;

/** A way on: what it adds to a beam, and what it has then. */
interface Continuation {
  readonly beam: Beam;
  readonly token: number;
  /** Sum of log-probabilities, as processors leave them. */
  readonly score: number;
}

/** One of the sequences that are followed. */
interface Beam {
  readonly row: Row;
  readonly score: number;
  /** Its row among those of the decoding. */
  readonly place: number;
}

interface Finished {
  readonly row: Row;
  /** Sum of log-probabilities over a power of the length. */
  readonly score: number;
}

/**
 * Beam search: each prompt keeps the `numBeams` likeliest sequences and goes on with them; what they share of the cache is shared. Prompts
 * do not see each other.
 * Source: transformers `generation/utils.py`, `_beam_search`.
 */
export async function searchBeams(run: GenerationRun, decoding: Decoding): Promise<void> {
  const { parameters, signal, budget, vocabSize } = run.plan;
  const processors = scoreProcessors(parameters, budget, vocabSize);
  let searches = run.rows.map((row, place) => new BeamsOfPrompt(run, processors, row, place));
  const all = searches;
  let scores = await run.prefill(decoding, 0);
  for (;;) {
    abortIf(signal, 'generation');
    await advance(searches, scores, run);
    run.rows = all.flatMap((search) => search.best);
    searches = searches.filter((search) => !search.isOver);
    if (searches.length === 0) break;
    abortIf(signal, 'generation');
    const beams = searches.flatMap((search) => search.beams);
    decoding.fork(beams.map(({ place }) => place));
    let place = 0;
    for (const search of searches) place = search.settle(place);
    const tokens = beams.map(({ row }) => [row.tokens.at(-1) as number]);
    scores = await decoding.step([...beams.keys()], tokens, 0, signal);
  }
  run.sequencesScores = all.flatMap((search) => search.bestScores);
}

async function advance(
  searches: readonly BeamsOfPrompt[],
  { logits }: Scores,
  run: GenerationRun,
): Promise<void> {
  const all = await logits();
  const width = run.plan.vocabSize;
  for (const search of searches) {
    search.advance((place) => all.subarray(place * width, (place + 1) * width));
    await run.breathe();
  }
}

/** The search for one prompt. */
class BeamsOfPrompt {
  readonly #run: GenerationRun;
  readonly #processors: readonly ScoreProcessor[];
  /** Best first, and only as many as `numBeams`. */
  #finished: Finished[] = [];
  #scratch: Float32Array | undefined;
  /** Those that are followed, best first. */
  beams: Beam[];
  isOver = false;

  constructor(run: GenerationRun, processors: readonly ScoreProcessor[], row: Row, place: number) {
    this.#run = run;
    this.#processors = processors;
    this.beams = [{ row, score: 0, place }];
  }

  /** The rows to give back, best first: those that have ended, or as long as these are too few, those that have not. */
  get best(): Row[] {
    return this.#ranked.map(({ row }) => row);
  }

  get bestScores(): number[] {
    return this.#ranked.map(({ score }) => score);
  }

  get #ranked(): readonly Finished[] {
    const { numReturnSequences } = this.#run.plan.parameters;
    return [...this.#finished, ...this.beams].slice(0, numReturnSequences);
  }

  /** Numbers its beams as rows of the decoding, from `place` on. @returns the place behind them */
  settle(place: number): number {
    this.beams = this.beams.map((beam, i) => ({ ...beam, place: place + i }));
    return place + this.beams.length;
  }

  /** One more token. @param logitsAt the logits [vocab] of a row of the decoding */
  advance(logitsAt: (place: number) => Float32Array): void {
    const { numBeams, eosTokenIds, earlyStopping, lengthPenalty } = this.#run.plan.parameters;
    const kept = Math.max(2, 1 + eosTokenIds.length) * numBeams;
    const isLate = this.#run.isLate;
    const candidates = this.#continuations(logitsAt, kept).map(({ beam, token, score }) => {
      const row = beam.row.fork();
      row.push(token);
      row.finish = this.#run.finishOf(row, token) ?? (isLate ? 'time' : undefined);
      return { row, score, place: beam.place };
    });
    const open = candidates.filter(({ row }) => row.finish === undefined);
    const length = candidates[0]?.row.newTokens.length ?? 1;
    const ended = candidates
      .slice(0, numBeams)
      .filter(({ row }) => row.finish !== undefined)
      .map(({ row, score }) => ({ row, score: score / length ** lengthPenalty }));
    // Sorting is stable: of equal ones the one that ended first.
    this.#finished = [...this.#finished, ...ended].sort((a, b) => b.score - a.score).slice(0, numBeams);
    this.beams = open.slice(0, numBeams);
    const isFull = this.#finished.length === numBeams;
    this.isOver = open.length === 0 || (isFull && (earlyStopping === true || !this.#canImprove(length)));
  }

  /** Whether the best that is open could still end better than the worst that has ended. */
  #canImprove(length: number): boolean {
    const { budget, parameters } = this.#run.plan;
    const { earlyStopping, lengthPenalty } = parameters;
    const hoped = earlyStopping === 'never' && lengthPenalty > 0 ? budget : length;
    const possible = (this.beams[0]?.score ?? OUT) / hoped ** lengthPenalty;
    return possible > (this.#finished.at(-1)?.score ?? OUT);
  }

  /** The `count` best ways on of all beams, best first; of equal ones by beam and id. */
  #continuations(logitsAt: (place: number) => Float32Array, count: number): Continuation[] {
    const found = this.beams.flatMap((beam) => {
      const { values, ids } = highest(this.#logProbabilities(logitsAt(beam.place), beam.row), count);
      return Array.from(ids, (token, i) => ({
        beam,
        token,
        score: Math.fround((values[i] as number) + beam.score),
      }));
    });
    return found.sort((a, b) => b.score - a.score).slice(0, count);
  }

  /** log-softmax, then the processors. */
  #logProbabilities(logits: Float32Array, row: Row): Float32Array {
    this.#scratch ??= new Float32Array(logits.length);
    const normalizer = logSumExp(logits);
    for (let id = 0; id < logits.length; id++) this.#scratch[id] = (logits[id] as number) - normalizer;
    editAll(
      this.#scratch,
      this.#processors.flatMap((processor) => processor.edit(row) ?? []),
    );
    return this.#scratch;
  }
}
