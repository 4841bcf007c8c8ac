/** What a template did wrong, in Jinja's or Python's words, or the bound that it met. */
export class TemplateFault extends Error {
  override name = 'TemplateFault';
}

/** A bound that a template met. */
export class TemplateLimit extends TemplateFault {}

// A template comes with the checkpoint, from strangers. These bounds are far above what a conversation needs.
const MOST_STEPS = 5_000_000;
const MOST_TEXT = 16 * 2 ** 20;
const MOST_TEXT_IN_ALL = 64 * 2 ** 20;
const MOST_ITEMS = 1_000_000;
const MOST_ITEMS_IN_ALL = 2_000_000;
const TIME_LIMIT_MS = 2_000;
// Long conversations may take more: each text and item given is copied this often at most.
const COPIES = 64;

const STEPS_BETWEEN_LOOKS = 4_096;
// Characters of native text work that take about as long as one step.
const CHARACTERS_PER_STEP = 64;

/**
 * What one rendering may spend. Every operation pays before or right after it computes, so that none runs on unseen:
 * steps for work, and text and items for memory. Values never shrink, so the sums bound what can be held at once.
 */
export class Budget {
  readonly #deadline = performance.now() + TIME_LIMIT_MS;
  readonly #mostText: number;
  readonly #mostTextInAll: number;
  readonly #mostItemsInAll: number;
  #steps = 0;
  #nextLook = 0;
  #text = 0;
  #items = 0;

  /** @param given characters and items of the data that the template works on */
  constructor(given: { characters: number; items: number } = { characters: 0, items: 0 }) {
    this.#mostText = MOST_TEXT + 4 * given.characters;
    this.#mostTextInAll = MOST_TEXT_IN_ALL + COPIES * given.characters;
    this.#mostItemsInAll = MOST_ITEMS_IN_ALL + COPIES * given.items;
  }

  /** Pays for work. */
  step(count = 1): void {
    this.#steps += count;
    if (this.#steps < this.#nextLook) return;
    this.#nextLook = this.#steps + STEPS_BETWEEN_LOOKS;
    if (this.#steps > MOST_STEPS) throw new TemplateLimit(`it takes more than ${MOST_STEPS} steps`);
    if (performance.now() > this.#deadline) {
      throw new TemplateLimit(`it takes more than ${TIME_LIMIT_MS / 1000} s`);
    }
  }

  /** Pays for looking through a text. */
  read(text: unknown): void {
    if (typeof text === 'string') this.step(1 + Math.floor(text.length / CHARACTERS_PER_STEP));
  }

  /** Pays for a text of this many characters, before it is made. */
  text(characters: number): void {
    if (characters > this.#mostText) {
      throw new TemplateLimit(`it makes a text of more than ${this.#mostText} characters`);
    }
    this.#text += characters;
    if (this.#text > this.#mostTextInAll) {
      throw new TemplateLimit(`it makes texts of more than ${this.#mostTextInAll} characters in all`);
    }
    this.step(1 + Math.floor(characters / CHARACTERS_PER_STEP));
  }

  /** Pays for `left + right`. The two are shared, not copied; what copies the whole later pays for it then. */
  join(left: string, right: string): string {
    const characters = left.length + right.length;
    if (characters > this.#mostText) this.text(characters);
    this.text(Math.min(left.length, right.length));
    return left + right;
  }

  /** Pays for a list of this many items, before it is made. */
  items(count: number): void {
    if (count > MOST_ITEMS) throw new TemplateLimit(`it makes a list of more than ${MOST_ITEMS} items`);
    this.#items += count;
    if (this.#items > this.#mostItemsInAll) {
      throw new TemplateLimit(`it makes lists of more than ${this.#mostItemsInAll} items in all`);
    }
    this.step(1 + count);
  }
}
