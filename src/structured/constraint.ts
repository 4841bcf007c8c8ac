import type { Automaton, State } from './automaton.ts';
import { foreseen } from './foresight.ts';
import type { TokenTable } from './token-table.ts';

/** Lists of allowed tokens that are kept for states that come again; a list of a whole vocabulary takes half a megabyte. */
const MOST_LISTS = 32;
/** Bytes of the text so far that are looked at for its habits, at least. */
const REMEMBERED = 2048;

/** A grammar, and what has been found out about the tokens of one tokenizer in it. Serves any number of rows. */
export class TokenGrammar {
  readonly automaton: Automaton;
  readonly table: TokenTable;
  readonly #lists = new Map<State, Int32Array>();

  constructor(automaton: Automaton, table: TokenTable) {
    this.automaton = automaton;
    this.table = table;
  }

  /** @param endTokenIds end a row; allowed where the text may end */
  start(endTokenIds: readonly number[]): GrammarConstraint {
    return new GrammarConstraint(this, endTokenIds);
  }

  /** All tokens that are text and may follow. */
  listed(state: State): Int32Array {
    let list = this.#lists.get(state);
    if (!list) {
      const { automaton } = this;
      list = Int32Array.from(this.table.walk(state, (at, byte) => automaton.next(at, byte)));
      if (this.#lists.size >= MOST_LISTS) this.#lists.delete(this.#lists.keys().next().value as State);
      this.#lists.set(state, list);
    }
    return list;
  }
}

/** Lets one row follow a grammar, token by token. */
class GrammarConstraint {
  readonly #grammar: TokenGrammar;
  readonly #ends: readonly number[];
  #state: State;
  #hasEnded = false;
  /** The end of the text so far. */
  #text: number[] = [];

  constructor(grammar: TokenGrammar, endTokenIds: readonly number[]) {
    this.#grammar = grammar;
    this.#ends = endTokenIds;
    this.#state = grammar.automaton.start;
  }

  allows(id: number): boolean {
    if (this.#ends.includes(id)) return this.#state.accepts;
    const bytes = this.#grammar.table.tokens.bytesOf(id);
    return (
      bytes !== undefined &&
      bytes.length > 0 &&
      this.#grammar.automaton.read(this.#state, bytes) !== undefined
    );
  }

  advance(id: number): void {
    const { automaton, table } = this.#grammar;
    const bytes = this.#ends.includes(id) ? undefined : table.tokens.bytesOf(id);
    if (!bytes) {
      this.#hasEnded = true;
      return;
    }
    this.#state = automaton.trimmed(automaton.read(this.#state, bytes) ?? this.#state);
    this.#text.push(...bytes);
    if (this.#text.length > 2 * REMEMBERED) this.#text = this.#text.slice(-REMEMBERED);
  }

  /** Tokens of the text that has to come next, in the tokenizer's own spelling; none where there are several ways on. */
  draft(): readonly number[] {
    const { automaton, table } = this.#grammar;
    return this.#hasEnded ? [] : foreseen(automaton, table.tokens, this.#state, this.#text);
  }

  get isComplete(): boolean {
    return this.#hasEnded || this.#state.isFinal;
  }

  *allowed(): Iterable<number> {
    yield* this.#grammar.listed(this.#state);
    if (this.#state.accepts) yield* this.#ends;
  }
}
