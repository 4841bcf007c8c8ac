/** A token as far as the place of its text goes. */
interface Token {
  readonly id: number;
  readonly bytes?: readonly number[];
}

/**
 * Where tokens begin in the text that they make up, one after another: in Unicode characters, as Python counts them and with it vLLM. A token
 * that goes on with a character begins where that character does.
 */
export class TextOffsets {
  readonly #adds: (id: number) => boolean;
  // A BOM is a character like others.
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #length: number;

  /**
   * @param before the text before the first token
   * @param adds whether a token adds to the text; special ones may not
   */
  constructor(before = '', adds: (id: number) => boolean = () => true) {
    this.#length = charactersOf(before);
    this.#adds = adds;
  }

  next({ id, bytes = [] }: Token): number {
    if (bytes.length === 0 || !this.#adds(id)) return this.#length;
    // What does not go on with a character ends it, complete or not.
    if (!goesOn(bytes[0] as number)) this.#length += charactersOf(this.#decoder.decode());
    const offset = this.#length;
    this.#length += charactersOf(this.#decoder.decode(Uint8Array.from(bytes), { stream: true }));
    return offset;
  }
}

/** Whether a byte of UTF-8 is none that a character begins with. */
function goesOn(byte: number): boolean {
  return byte >= 0x80 && byte < 0xc0;
}

function charactersOf(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
