import type { TokenConstraint } from './constraint.ts';
import { type RowHistory, type ScoreProcessor, scoreProcessors } from './logits-processors.ts';
import type { Random } from './random.ts';
import type { ResolvedParameters } from './resolve-parameters.ts';
import { makeSampler, refuse, type Sampler } from './sampler.ts';
import { editAll, editList } from './score-edits.ts';
import { allowedOf, highest, listed, type Shortlist } from './shortlist.ts';

/** The model's scores for the next token of one row. */
export interface RowScores {
  /** The highest, best first; none where none were asked for. */
  readonly values: Float32Array;
  readonly ids: Int32Array;
  /** All of them [vocab]. They are the pass's: to be read only. */
  logits(): Promise<Float32Array>;
}

/** A row about to get its next token. */
export interface ChoosingRow extends RowHistory {
  readonly random: Random;
  readonly constraint: TokenConstraint | undefined;
}

/** Scores listed beyond those a choice is made from, for what ties with the last of these; the default of 50 makes 64. */
const MARGIN = 14;
/** More of them where edits may lower some, or a constraint refuse them. */
const EDITED_MARGIN = 64;
/** Longer lists would cost more than all scores. */
const MOST_LISTED = 1024;
/** How many of all scores are sorted for a constraint that has refused too many: first so many, then this factor more. */
const SORTED_FIRST = 1024;
const SORTED_FACTOR = 16;

/**
 * Makes of a row's scores its next token: processors, constraint, filters, draw. It tries with the highest scores alone, and takes all only
 * where these cannot settle the choice; the token is the same either way.
 */
export class TokenChoice {
  /** How many of the highest scores a pass shall list; 0: it takes all of them anyway. */
  readonly candidates: number;
  readonly #processors: readonly ScoreProcessor[];
  readonly #sampler: Sampler;
  readonly #vocabSize: number;
  /** Copy of a row's scores, for processors to change. */
  #scratch: Float32Array | undefined;

  /** @param budget new tokens that a row may have */
  constructor(parameters: ResolvedParameters, vocabSize: number, budget: number, isConstrained: boolean) {
    this.#processors = scoreProcessors(parameters, budget, vocabSize);
    this.#sampler = makeSampler(parameters, vocabSize);
    this.#vocabSize = vocabSize;
    const { wanted } = this.#sampler;
    const needsAll = wanted === 0 || this.#processors.some((processor) => processor.needsAll);
    const isEdited = isConstrained || this.#processors.length > 0;
    const margin = isEdited ? EDITED_MARGIN : parameters.doSample ? MARGIN : 0;
    const count = Math.min(wanted + margin, vocabSize);
    this.candidates = needsAll || count > MOST_LISTED ? 0 : count;
  }

  /** @throws InputError where every token is forbidden; EngineError where no score is a number */
  async choose(scores: RowScores, row: ChoosingRow): Promise<number> {
    const edits = this.#processors.flatMap((processor) => processor.edit(row) ?? []);
    if (scores.ids.length > 0) {
      const list = editList(listed(scores.values, scores.ids, this.#vocabSize), edits);
      const token = list && this.#fromList(list, row);
      if (token !== undefined) return token;
    }
    const all = await scores.logits();
    if (edits.length === 0) return this.#fromAll(all, row);
    this.#scratch ??= new Float32Array(all.length);
    this.#scratch.set(all);
    editAll(this.#scratch, edits);
    return this.#fromAll(this.#scratch, row);
  }

  #fromList(list: Shortlist, { constraint, random }: ChoosingRow): number | undefined {
    const { wanted } = this.#sampler;
    const allowed = constraint ? allowedOf(list, (id) => constraint.allows(id), wanted || Infinity) : list;
    return this.#sampler.fromTop(allowed, random);
  }

  #fromAll(scores: Float32Array, row: ChoosingRow): number {
    const { constraint, random } = row;
    if (!constraint) return this.#sampler.fromAll(scores, random);
    if (this.#sampler.wanted > 0) {
      for (let count = SORTED_FIRST; count < scores.length; count *= SORTED_FACTOR) {
        const token = this.#fromList(highest(scores, count), row);
        if (token !== undefined) return token;
      }
    }
    return this.#sampler.fromAll(onlyAllowed(scores, constraint), random);
  }
}

/** A copy of the scores, −∞ where the constraint does not allow the token. */
function onlyAllowed(scores: Float32Array, constraint: TokenConstraint): Float32Array {
  const allowed = new Float32Array(scores.length).fill(-Infinity);
  const ids = constraint.allowed?.() ?? [...scores.keys()].filter((id) => constraint.allows(id));
  for (const id of ids) if (id < scores.length) allowed[id] = scores[id] as number;
  return allowed.some((score) => score > -Infinity) ? allowed : refuse(scores);
}
