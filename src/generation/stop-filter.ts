/**
 * Lets text pass, as it comes, but what may be the beginning of a stop string: that is held back until what follows decides. Where a stop
 * string is complete when the text ends, it and what came after it in the same piece are cut.
 */
export class StopFilter {
  readonly #stopStrings: readonly string[];
  #held = '';

  constructor(stopStrings: readonly string[]) {
    this.#stopStrings = stopStrings;
  }

  /** Adds text. Returns what is certain to stay, often nothing. */
  push(text: string): string {
    // What was held and has been followed by more ended nothing.
    const all = this.#held + text;
    const from = Math.min(this.#completeAt(all, this.#held.length), this.#openAt(all));
    this.#held = all.slice(from);
    return all.slice(0, from);
  }

  /** Ends the text, with a last piece. Returns what was held back, up to the stop string that is complete. */
  flush(last = ''): string {
    const text = this.#held + last;
    this.#held = '';
    return text.slice(0, this.#completeAt(text, 0));
  }

  /** Where the first stop string begins that ends behind `after`; the end of the text where there is none. */
  #completeAt(text: string, after: number): number {
    let first = text.length;
    for (const stop of this.#stopStrings) {
      const at = text.indexOf(stop, Math.max(0, after - stop.length + 1));
      if (at !== -1 && at < first) first = at;
    }
    return first;
  }

  /** Where the longest end of the text begins that some stop string begins with. */
  #openAt(text: string): number {
    let first = text.length;
    for (const stop of this.#stopStrings) {
      for (let length = Math.min(stop.length - 1, text.length); length > text.length - first; length--)
        if (text.endsWith(stop.slice(0, length))) first = text.length - length;
    }
    return first;
  }
}
