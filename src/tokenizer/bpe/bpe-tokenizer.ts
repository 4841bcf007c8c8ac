import { type AddedToken, AddedTokenFinder } from './added-tokens.ts';
import type { BpeModel } from './bpe-model.ts';
import { tokenBytes } from './byte-level.ts';
import type { Normalizer } from './normalizer.ts';
import { withinTime } from './pattern.ts';
import type { Surroundings } from './post-processor.ts';
import type { PreTokenizer } from './pre-tokenizer.ts';
import type { Vocabulary } from './vocabulary.ts';

export interface BpeParts {
  vocabulary: Vocabulary;
  addedTokens: readonly AddedToken[];
  normalizer: Normalizer;
  preTokenizer: PreTokenizer;
  model: BpeModel;
  surroundings: Surroundings;
  /** For messages. */
  file: string;
}

// Pieces of this many characters are merged in batches.
const LONG = 4_096;

/** Text to ids and back, as the `tokenizer.json` of a byte-level byte-pair tokenizer says. */
export class BpeTokenizer {
  readonly vocabulary: Vocabulary;
  readonly #parts: BpeParts;
  readonly #raw: AddedTokenFinder;
  readonly #normalized: AddedTokenFinder;
  readonly #bytes: (Uint8Array | undefined)[] = [];

  constructor(parts: BpeParts) {
    this.vocabulary = parts.vocabulary;
    this.#parts = parts;
    const { addedTokens, normalizer } = parts;
    const find = (normalized: boolean, textOf: (token: AddedToken) => string) =>
      new AddedTokenFinder(
        addedTokens
          .filter((token) => token.normalized === normalized)
          .map((token) => [textOf(token), token] as const),
      );
    this.#raw = find(false, (token) => token.content);
    this.#normalized = find(true, (token) => normalizer.apply(token.content));
  }

  /**
   * Adds the ids of a text to `out`, a batch of pieces at a time; the caller may stop between.
   *
   * @param splitSpecial leaves special tokens written out in the text unrecognised
   * @throws {TokenizerError} a pattern of the file takes too long, or a character has no id.
   */
  *encode(text: string, splitSpecial: boolean, out: number[]): Generator<void, void, undefined> {
    for (const section of this.#raw.sections(text, splitSpecial)) {
      if (section === undefined) yield;
      else if (typeof section !== 'string') out.push(section.id);
      else yield* this.#encodeSection(section, splitSpecial, out);
    }
  }

  /** Ids that stand before and behind those of a text with special tokens. */
  get surroundings(): Surroundings {
    return this.#parts.surroundings;
  }

  *#encodeSection(text: string, splitSpecial: boolean, out: number[]): Generator<void, void, undefined> {
    const { normalizer, preTokenizer, model } = this.#parts;
    const normalized = this.#guarded(normalizer.hasPatterns, text, () => normalizer.apply(text));
    for (const section of this.#normalized.sections(normalized, splitSpecial)) {
      if (typeof section !== 'string') {
        if (section === undefined) yield;
        else out.push(section.id);
        continue;
      }
      // What matches patterns of the file is run to its end, under a limit of time.
      const batches = preTokenizer.hasPatterns
        ? this.#guarded(true, section, () => [...preTokenizer.batches(section)])
        : preTokenizer.batches(section);
      for (const batch of batches) {
        let characters = 0;
        for (const piece of batch) {
          if (piece.length < LONG) model.encode(piece, out);
          else yield* model.encodeLong(piece, out);
          characters += piece.length;
          if (characters < LONG) continue;
          characters = 0;
          yield;
        }
        yield;
      }
    }
  }

  #guarded<T>(hasPatterns: boolean, text: string, task: () => T): T {
    return hasPatterns ? withinTime(task, text, this.#parts.file) : task();
  }

  /** The bytes that a token stands for; undefined for an id that no token has. */
  bytesOf(id: number): Uint8Array | undefined {
    const known = this.#bytes[id];
    if (known !== undefined) return known;
    const token = this.vocabulary.token(id);
    if (token === undefined) return undefined;
    const bytes = tokenBytes(token);
    this.#bytes[id] = bytes;
    return bytes;
  }
}
