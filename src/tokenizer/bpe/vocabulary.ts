import { expected, show, TokenizerError } from '../../errors.ts';

/** Ids index an array; anything larger is damage, not a vocabulary. */
export const LARGEST_ID = 2 ** 24;

/** Tokens and their ids, both ways. */
export class Vocabulary {
  readonly #ids = new Map<string, number>();
  readonly #tokens: (string | undefined)[] = [];

  get size(): number {
    return this.#ids.size;
  }

  get largestId(): number {
    return this.#tokens.length - 1;
  }

  id(token: string): number | undefined {
    return this.#ids.get(token);
  }

  token(id: number): string | undefined {
    return this.#tokens[id];
  }

  /**
   * @param file names the vocabulary in messages
   * @throws {TokenizerError} the id is none, or belongs to another token.
   */
  add(token: string, id: unknown, file: string): void {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > LARGEST_ID) {
      throw new TokenizerError(
        expected(`${file}: the id of token ${show(token)}`, id, `a whole number from 0 to ${LARGEST_ID}`),
      );
    }
    const holder = this.#tokens[id];
    if (holder !== undefined && holder !== token) {
      throw new TokenizerError(`${file}: tokens ${show(holder)} and ${show(token)} both have id ${id}.`);
    }
    this.#tokens[id] = token;
    this.#ids.set(token, id);
  }
}
