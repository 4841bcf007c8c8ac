/** Cuts text, as it comes, where the first of some stop strings begins; what may be the beginning of one is held back. */
export class StopCutter {
  readonly #stops: readonly string[];
  readonly #keepsStop: boolean;
  #held = '';
  /** The stop string that was found. */
  found: string | undefined;

  /** @param keepsStop whether the stop string itself stays */
  constructor(stops: readonly string[], keepsStop = false) {
    this.#stops = stops;
    this.#keepsStop = keepsStop;
  }

  /**
   * @param isHeeded whether a stop string that ends within `text` counts
   * @returns what is certain to stay
   */
  push(text: string, isHeeded = true): string {
    if (this.found !== undefined) return '';
    const all = this.#held + text;
    let cut = all.length;
    for (const stop of isHeeded ? this.#stops : []) {
      const at = all.indexOf(stop, Math.max(0, this.#held.length + 1 - stop.length));
      if (at === -1 || at >= cut) continue;
      cut = at;
      this.found = stop;
    }
    if (this.found !== undefined && this.#keepsStop) cut += this.found.length;
    const certain = this.found === undefined ? all.length - this.#openEnd(all) : cut;
    this.#held = this.found === undefined ? all.slice(certain) : '';
    return all.slice(0, certain);
  }

  /** Ends the text. @returns what was held back */
  flush(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }

  #openEnd(text: string): number {
    const longest = Math.max(0, ...this.#stops.map((stop) => stop.length - 1));
    for (let length = Math.min(longest, text.length); length > 0; length--)
      if (this.#stops.some((stop) => stop.length > length && text.endsWith(stop.slice(0, length))))
        return length;
    return 0;
  }
}
