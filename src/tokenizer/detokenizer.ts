/** The bytes that an id stands for; undefined for one that adds no text. */
export type BytesOf = (id: number) => Uint8Array | undefined;

// Ids whose text is held back at most, so that endless invalid bytes cannot pile up.
const MOST_HELD = 64;

/**
 * Decodes a growing sequence, one id at a time, into pieces of text that together equal the text of the whole, for any
 * ids.
 *
 * Text is held back while it ends in U+FFFD, which stands for a character whose last bytes have not come yet.
 */
export class Detokenizer {
  readonly #bytesOf: BytesOf;
  /** The first bytes of a character that is not complete. */
  #tail = Buffer.alloc(0);
  #held = '';
  #heldIds = 0;

  constructor(bytesOf: BytesOf) {
    this.#bytesOf = bytesOf;
  }

  /** Text held back so far. */
  get pending(): string {
    return this.#held + this.#tail.toString('utf8');
  }

  /** Adds an id. Returns the text that is now certain, often empty. */
  push(id: number): string {
    const bytes = this.#bytesOf(id);
    if (bytes !== undefined && bytes.length > 0) {
      const all = this.#tail.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#tail, bytes]);
      const complete = all.length - incompleteBytes(all);
      this.#held += all.toString('utf8', 0, complete);
      this.#tail = all.subarray(complete);
    }
    const isOpen = this.#tail.length > 0 || this.#held.endsWith('\uFFFD');
    if (isOpen && ++this.#heldIds <= MOST_HELD) return '';
    return this.#release();
  }

  /** Ends the sequence. Returns what was held back. */
  flush(): string {
    const text = this.pending;
    this.#tail = Buffer.alloc(0);
    this.#release();
    return text;
  }

  #release(): string {
    const text = this.#held;
    this.#held = '';
    this.#heldIds = 0;
    return text;
  }
}

/** How many bytes at the end begin a character of UTF-8 that further bytes may complete. */
function incompleteBytes(bytes: Uint8Array): number {
  for (let count = 1; count <= Math.min(3, bytes.length); count++) {
    const at = bytes.length - count;
    const lead = bytes[at] as number;
    if (lead < 0x80) return 0;
    if (lead < 0xc0) continue;
    const length =
      lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
    if (count >= length) return 0;
    return count === 1 || canFollow(lead, bytes[at + 1] as number) ? count : 0;
  }
  return 0;
}

/** Whether a byte may be the second of a character that begins with `lead`: neither overlong, a surrogate, nor too large. */
function canFollow(lead: number, second: number): boolean {
  const lowest = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const highest = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  return second >= lowest && second <= highest;
}
