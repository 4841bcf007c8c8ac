/** stderr, or what shows progress there. */
type Written = { write(text: string): unknown };

/** Writes warnings to stderr. On a terminal they would stand in the midst of a text: those that come while one is written wait for its end. */
export class Warnings {
  readonly #stderr: Written;
  #held: string[] | undefined;

  constructor(stderr: Written) {
    this.#stderr = stderr;
  }

  readonly warn = (message: string): void => {
    if (this.#held) this.#held.push(message);
    else this.#stderr.write(`warning: ${message}\n`);
  };

  hold(): void {
    this.#held ??= [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const message of held) this.warn(message);
  }
}
