import { show, TokenizerError } from '../../errors.ts';
import { byteCharacter, toByteLevel } from './byte-level.ts';
import { BATCH, type MergeTable, mergeSteps, mergeWord } from './merges.ts';
import type { Vocabulary } from './vocabulary.ts';

/** Settings of `model` in tokenizer.json. */
export interface BpeSettings {
  readonly unkToken: string | undefined;
  readonly fuseUnk: boolean;
  readonly byteFallback: boolean;
  readonly ignoreMerges: boolean;
  /** Pieces are text that stands for its bytes. */
  readonly isByteLevel: boolean;
}

const LONGEST_CACHED = 64;
const MOST_CACHED = 20_000;

/** Byte-pair encoding of one piece of text. Source: Hugging Face tokenizers, `models/bpe/model.rs`, `BPE`. */
export class BpeModel {
  readonly #vocabulary: Vocabulary;
  readonly #merges: MergeTable;
  readonly #settings: BpeSettings;
  readonly #file: string;
  readonly #byteIds: readonly (number | undefined)[];
  readonly #unknown: number | undefined;
  #cache = new Map<string, readonly number[]>();

  /** @param file names the tokenizer in messages */
  constructor(vocabulary: Vocabulary, merges: MergeTable, settings: BpeSettings, file: string) {
    this.#vocabulary = vocabulary;
    this.#merges = merges;
    this.#settings = settings;
    this.#file = file;
    this.#byteIds = Array.from({ length: 256 }, (_, byte) => vocabulary.id(byteCharacter(byte)));
    this.#unknown = settings.unkToken === undefined ? undefined : vocabulary.id(settings.unkToken);
  }

  /** Adds the ids of a piece to `out`. */
  encode(piece: string, out: number[]): void {
    const cached = this.#cache.get(piece);
    if (cached !== undefined) {
      for (const id of cached) out.push(id);
      return;
    }
    const ids = this.#merge(piece);
    for (const id of ids) out.push(id);
    if (piece.length > LONGEST_CACHED) return;
    if (this.#cache.size >= MOST_CACHED) this.#cache = new Map();
    this.#cache.set(piece, ids);
  }

  /** As `encode`, for long pieces: the caller may stop on the way. */
  *encodeLong(piece: string, out: number[]): Generator<void, void, undefined> {
    const whole = this.#whole(piece);
    if (whole !== undefined) {
      out.push(whole);
      return;
    }
    const symbols: number[] = [];
    for (let from = 0; from < piece.length; ) {
      const end = wholeCharacters(piece, from + BATCH);
      this.#addSymbols(piece.slice(from, end), symbols);
      from = end;
      yield;
    }
    for (const id of yield* mergeSteps(symbols, this.#merges)) {
      out.push(id);
      if (out.length % BATCH === 0) yield;
    }
  }

  #merge(piece: string): readonly number[] {
    const whole = this.#whole(piece);
    if (whole !== undefined) return [whole];
    const symbols: number[] = [];
    this.#addSymbols(piece, symbols);
    return mergeWord(symbols, this.#merges);
  }

  /** The id of a piece that is a token as it stands, where that goes before merges. */
  #whole(piece: string): number | undefined {
    const { isByteLevel, ignoreMerges } = this.#settings;
    return ignoreMerges ? this.#vocabulary.id(isByteLevel ? toByteLevel(piece) : piece) : undefined;
  }

  /** Adds the ids of a piece's smallest parts. */
  #addSymbols(piece: string, ids: number[]): void {
    if (this.#settings.isByteLevel) this.#addBytes(piece, ids);
    else this.#addCharacters(piece, ids);
  }

  #addBytes(piece: string, ids: number[]): void {
    for (const byte of Buffer.from(piece, 'utf8')) {
      const id = this.#byteIds[byte];
      if (id !== undefined) ids.push(id);
      else this.#addUnknown(byteCharacter(byte), ids);
    }
  }

  #addCharacters(piece: string, ids: number[]): void {
    for (const character of piece) {
      const id = this.#vocabulary.id(character);
      if (id !== undefined) ids.push(id);
      else this.#addUnknown(character, ids);
    }
  }

  #addUnknown(character: string, ids: number[]): void {
    const { byteFallback, fuseUnk } = this.#settings;
    if (byteFallback) {
      const names = [...Buffer.from(character, 'utf8')].map(
        (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
      );
      const bytes = names.map((name) => this.#vocabulary.id(name));
      if (!bytes.includes(undefined)) {
        ids.push(...(bytes as number[]));
        return;
      }
    }
    if (this.#unknown === undefined) {
      throw new TokenizerError(
        `The tokenizer of ${this.#file} has no id for ${show(character)}, and no unknown-token to stand in.`,
      );
    }
    if (!fuseUnk || ids.at(-1) !== this.#unknown) ids.push(this.#unknown);
  }
}

/** The end of a slice, moved so that it parts no pair of surrogates. */
function wholeCharacters(text: string, end: number): number {
  if (end >= text.length) return text.length;
  const parts = (text.codePointAt(end - 1) as number) > 0xffff;
  return parts ? end + 1 : end;
}
