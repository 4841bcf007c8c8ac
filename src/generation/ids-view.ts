/**
 * The ids of a row as a function of the caller's sees them: an array of its own that grows along with the row, so that whatever the
 * function does to it reaches nobody else, at the price of one append a token. An array whose length it has changed, or which it has
 * frozen, is replaced.
 */
export class IdsView {
  #ids: number[] = [];
  #length = 0;

  /** @param tokens the row, which only grows */
  of(tokens: readonly number[]): readonly number[] {
    if (!this.#grow(tokens)) this.#ids = tokens.slice();
    this.#length = tokens.length;
    return this.#ids;
  }

  /** @returns false where the array is not as it was left */
  #grow(tokens: readonly number[]): boolean {
    if (this.#ids.length !== this.#length) return false;
    try {
      for (let i = this.#length; i < tokens.length; i++) this.#ids.push(tokens[i] as number);
      return true;
    } catch {
      return false;
    }
  }
}

/** A view for each row. */
export class IdsViews {
  readonly #views = new WeakMap<object, IdsView>();

  of(row: { readonly tokens: readonly number[] }): readonly number[] {
    const view = this.#views.get(row) ?? new IdsView();
    this.#views.set(row, view);
    return view.of(row.tokens);
  }
}
