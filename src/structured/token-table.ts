/** The tokens of a tokenizer, as the bytes they stand for. */
export interface TokenBytes {
  /** Ids go from 0 up to this, exclusive. */
  readonly size: number;
  /** Undefined for ids that no token has, and for tokens that are no text, such as the end of a turn. */
  bytesOf(id: number): Uint8Array | undefined;
  /** The tokens that the tokenizer makes of a text. */
  idsOf(text: string): readonly number[];
}

/**
 * The tokens in order of their bytes, so that those with a common beginning lie together: a trie in two arrays.
 */
export class TokenTable {
  readonly tokens: TokenBytes;
  #order: { readonly ids: Int32Array; readonly common: Uint16Array } | undefined;

  constructor(tokens: TokenBytes) {
    this.tokens = tokens;
  }

  /**
   * Lists tokens by a walk over their common beginnings, each of which is looked at once.
   *
   * @param step the point after one more byte; undefined where no token with this beginning is wanted
   * @returns ids of the tokens whose bytes can all be walked, in order of their bytes
   */
  walk<T>(start: T, step: (at: T, byte: number) => T | undefined): number[] {
    const { ids, common } = this.#sorted();
    const found: number[] = [];
    const path: T[] = [start];
    // Bytes of the token before that could be walked.
    let walked = 0;
    // Bytes of the beginning that could not, and that no token may share.
    let dead = Infinity;
    for (let i = 0; i < ids.length; i++) {
      const shared = common[i] as number;
      if (shared >= dead) continue;
      const id = ids[i] as number;
      const bytes = this.tokens.bytesOf(id) as Uint8Array;
      let depth = Math.min(shared, walked);
      dead = Infinity;
      for (; depth < bytes.length; depth++) {
        const next = step(path[depth] as T, bytes[depth] as number);
        if (next === undefined) {
          dead = depth + 1;
          break;
        }
        path[depth + 1] = next;
      }
      walked = depth;
      if (depth === bytes.length) found.push(id);
    }
    return found;
  }

  #sorted() {
    this.#order ??= sort(this.tokens);
    return this.#order;
  }
}

/** Bytes of a token's beginning that are compared as one number. */
const HEAD = 4;

/** @returns ids in order of their bytes, and how many bytes each has in common with the one before */
function sort({ size, bytesOf }: TokenBytes) {
  // Four bytes and an id of up to 20 bits are one number, which sorts faster than any comparison of ours.
  const keys = new Float64Array(size);
  let count = 0;
  for (let id = 0; id < size; id++) {
    const bytes = bytesOf(id);
    if (!bytes || bytes.length === 0) continue;
    let head = 0;
    for (let i = 0; i < HEAD; i++) head = head * 256 + (bytes[i] ?? 0);
    keys[count++] = head * 2 ** 20 + id;
  }
  const sorted = keys.subarray(0, count).sort();
  const ids = Int32Array.from(sorted, (key) => key % 2 ** 20);
  for (let from = 0; from < count; ) {
    const head = Math.floor((sorted[from] as number) / 2 ** 20);
    let to = from + 1;
    while (to < count && Math.floor((sorted[to] as number) / 2 ** 20) === head) to++;
    if (to - from > 1) {
      const group = Array.from(ids.subarray(from, to));
      ids.set(
        group.sort((a, b) => Buffer.compare(bytesOf(a) as Uint8Array, bytesOf(b) as Uint8Array)),
        from,
      );
    }
    from = to;
  }
  const common = new Uint16Array(count);
  for (let i = 1; i < count; i++)
    common[i] = commonBytes(
      bytesOf(ids[i - 1] as number) as Uint8Array,
      bytesOf(ids[i] as number) as Uint8Array,
    );
  return { ids, common };
}

function commonBytes(a: Uint8Array, b: Uint8Array): number {
  const most = Math.min(a.length, b.length, 0xffff);
  let same = 0;
  while (same < most && a[same] === b[same]) same++;
  return same;
}
