/**
 * Byte-level tokens are written with one printable character a byte: printable Latin-1 stands for itself, the other
 * bytes for the characters from U+0100 on. Source: GPT-2, `bytes_to_unicode`.
 */
const CHARACTERS: readonly string[] = byteCharacters();
const BYTES: ReadonlyMap<string, number> = new Map(CHARACTERS.map((character, byte) => [character, byte]));

function byteCharacters(): string[] {
  let further = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(isPrintable ? byte : further++);
  });
}

/** The character that stands for a byte. */
export function byteCharacter(byte: number): string {
  return CHARACTERS[byte] as string;
}

/** A text as byte-level tokens write it. */
export function toByteLevel(text: string): string {
  let result = '';
  for (const byte of Buffer.from(text, 'utf8')) result += CHARACTERS[byte];
  return result;
}

/**
 * The bytes that a token stands for. A token with other characters (an added token, say) stands for its own UTF-8.
 * Source: Hugging Face tokenizers, `pre_tokenizers/byte_level.rs`, `decode_chain`.
 */
export function tokenBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTES.get(token[i] as string);
    if (byte === undefined) return Buffer.from(token, 'utf8');
    bytes[i] = byte;
  }
  return bytes;
}
