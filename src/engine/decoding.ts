import type { Decoding, RowRouting, Scores } from '../generation/types.ts';
import type { Engine } from './engine.ts';
import type { KeptSequence } from './kept-sequences.ts';
import type { SequenceScores } from './request-queue.ts';
import type { Prompt, Sequence } from './sequence.ts';
import { SequenceRouting } from './sequence-routing.ts';
import type { BackendReader } from './tuning/policy.ts';

/** Who keeps a sequence over several decodings. */
export interface SequenceKeeper {
  /** What the next decoding goes on from. */
  readonly kept: KeptSequence;
  /** Takes what a decoding has computed, in place of that. */
  take(kept: KeptSequence): void;
  /** The decoding has ended, well or not. */
  end(): void;
}

export interface DecodingOptions {
  /** Most rows that each prompt will have at a time; default 1. */
  readonly rows?: number | undefined;
  /** Keep which experts each token goes to. What others have computed is not used then: it is not known of it. */
  readonly routing?: boolean | undefined;
  /** Of the sequence that the only prompt goes on from. */
  readonly keeper?: SequenceKeeper | undefined;
}

/** A batch of prompts being decoded. */
export class DecoderDecoding implements Decoding {
  readonly expertsCalls: Record<string, number> = {};
  readonly #engine: Engine;
  #sequences: readonly Sequence[];
  readonly #experts: BackendReader;
  #live: readonly number[];
  #scores: SequenceScores | undefined;
  /** Whether the engine has served it, and it has not asked since. */
  #isServed = false;
  #cachedTokens = 0;
  readonly #hasStates: boolean;
  /** Rows as they were before they took in guesses, where a state keeps these. */
  readonly #before = new Map<number, Sequence>();
  readonly #keeper: SequenceKeeper | undefined;

  /**
   * @param newTokens most tokens that will follow a prompt
   * @throws EngineError after the model was disposed of; InputError where what is kept is no beginning of the prompt
   */
  constructor(
    engine: Engine,
    prompts: readonly Prompt[],
    newTokens: number,
    experts: BackendReader,
    { rows = 1, routing = false, keeper }: DecodingOptions = {},
  ) {
    const lengths = prompts.map(({ ids }) => ids.length + newTokens);
    engine.assertRoom(lengths.flatMap((length) => Array.from({ length: rows }, () => length)));
    this.#engine = engine;
    this.#keeper = keeper;
    const kind = routing ? undefined : experts.requested();
    this.#sequences = prompts.map((prompt) => engine.open(prompt, newTokens, kind, keeper?.kept));
    const { layers, perToken } = engine.model.routed ?? { layers: [], perToken: 0 };
    if (routing)
      for (const sequence of this.#sequences) sequence.routed = new SequenceRouting(layers.length * perToken);
    this.#experts = experts;
    this.#hasStates = engine.model.caches.some(({ kind }) => kind === 'recurrent');
    this.#live = [...prompts.keys()];
  }

  async prefill(candidates: number, signal?: AbortSignal): Promise<Scores> {
    await this.#engine.reserve(this.#sequences, signal);
    const scores = await this.#ask(candidates, signal);
    this.#cachedTokens = this.#sequences.reduce((sum, sequence) => sum + sequence.cachedTokens, 0);
    return scores;
  }

  async step(
    rows: readonly number[],
    tokens: readonly (readonly number[])[],
    candidates: number,
    signal?: AbortSignal,
  ): Promise<Scores> {
    this.#leave(rows);
    for (const [i, row] of rows.entries()) this.#feed(row, tokens[i] as readonly number[]);
    return this.#ask(candidates, signal);
  }

  get cachedTokens(): number {
    return this.#cachedTokens;
  }

  routing(row: number, tokens: number): RowRouting | undefined {
    const { routed } = this.#engine.model;
    const experts = this.#sequences[row]?.routed?.first(tokens);
    return routed && experts && { layers: routed.layers, perToken: routed.perToken, experts };
  }

  fork(parents: readonly number[]): void {
    this.#leave(this.#live.filter((row) => parents.includes(row)));
    const sequenceOf = (row: number) => this.#sequences[row] as Sequence;
    // A row is its own first heir.
    const heirs = parents.map((row, i) =>
      parents.indexOf(row) === i ? sequenceOf(row) : this.#engine.fork(sequenceOf(row)),
    );
    this.#sequences = heirs;
    this.#live = [...heirs.keys()];
  }

  takeBack(row: number, count: number): void {
    const sequence = this.#sequences[row] as Sequence;
    const before = this.#before.get(row);
    this.#before.delete(row);
    if (count === 0 || !before) {
      if (before) this.#engine.close(before);
      sequence.takeBack(count);
      return;
    }
    for (let place = before.length; place < sequence.length - count; place++)
      before.append(sequence.idAt(place));
    this.#engine.close(sequence);
    this.#sequences = this.#sequences.with(row, before);
  }

  finish(): void {
    if (!this.#keeper) return;
    const [row] = this.#live;
    if (row !== undefined) this.#keeper.take(this.#engine.keep(this.#sequences[row] as Sequence));
    this.#live = [];
  }

  dispose(): void {
    this.#keeper?.end();
    for (const before of this.#before.values()) this.#engine.close(before);
    this.#before.clear();
    this.#scores?.release();
    this.#leave([]);
    if (this.#isServed) this.#engine.leave();
    this.#isServed = false;
  }

  #feed(row: number, tokens: readonly number[]): void {
    const sequence = this.#sequences[row] as Sequence;
    const [chosen, ...guesses] = tokens as [number, ...number[]];
    sequence.append(chosen);
    // Not set back after the step: where that is aborted, the pass it is part of goes on for others.
    sequence.scored = tokens.length;
    if (guesses.length === 0) return;
    // A state that has taken a guess in cannot let go of it: then the row goes on from here.
    if (this.#hasStates) this.#before.set(row, this.#engine.fork(sequence));
    sequence.guess(guesses);
  }

  /** The scores after the last tokens of every row that takes part. */
  async #ask(candidates: number, signal: AbortSignal | undefined): Promise<Scores> {
    this.#scores?.release();
    const sequences = this.#live.map((row) => this.#sequences[row] as Sequence);
    const isNext = this.#isServed;
    this.#isServed = false;
    const request = { sequences, candidates, experts: this.#experts, signal };
    const scores = await this.#engine.ask(request, isNext);
    this.#isServed = true;
    this.#scores = scores;
    for (const [name, count] of Object.entries(scores.expertsCalls))
      this.expertsCalls[name] = (this.expertsCalls[name] ?? 0) + count;
    const { values, ids } = scores;
    return { top: { count: candidates, values, ids }, logits: () => scores.logits() };
  }

  /** Gives up what rows hold that take no further part. */
  #leave(rows: readonly number[]): void {
    if (rows.length === this.#live.length) return;
    for (const row of this.#live)
      if (!rows.includes(row)) this.#engine.close(this.#sequences[row] as Sequence);
    this.#live = rows;
  }
}
