import { show, TokenizerError } from '../errors.ts';
import type { RawMerge, TokenizerFiles } from './tokenizer-files.ts';

/** The tables of the library's BPE model that are filled here. */
export interface BpeTables {
  vocab: string[];
  tokens_to_ids: Map<string, number>;
  /** Rank of each merge; the key is the JSON of `[left, right]`, as the library looks it up. */
  bpe_ranks: Map<string, number>;
}

/** How messages name the two tables. */
export interface TableNames {
  vocab: string;
  /** The place of merge `index`, such as `tokenizer.json: model.merges[7]`. */
  merge(index: number): string;
}

// Entries handled between two turns of the event loop: about 5 ms of work.
const SLICE = 4096;
// Ids index an array; anything larger is damage, not a vocabulary.
const LARGEST_ID = 2 ** 24;

/**
 * Fills the vocabulary and the merge ranks of a BPE model, a slice per turn of the event loop.
 *
 * @throws {TokenizerError} an entry is malformed, an id occurs twice, or a merge speaks of tokens the vocabulary lacks.
 */
export async function fillBpeTables(
  tables: BpeTables,
  files: TokenizerFiles,
  names: TableNames,
): Promise<void> {
  if (!files.vocabCount) {
    throw new TokenizerError(`${names.vocab} must be an object of token → id with at least one entry.`);
  }
  tables.vocab = new Array(files.vocabCount);
  tables.tokens_to_ids.clear();
  tables.bpe_ranks.clear();
  for (let from = 0; from < files.vocabCount; from += SLICE) {
    for (const [token, id] of await files.vocab(from, from + SLICE)) addToken(tables, token, id, names.vocab);
  }
  for (let from = 0; from < (files.mergeCount ?? 0); from += SLICE) {
    const slice = await files.merges(from, from + SLICE);
    slice.forEach((merge, offset) => {
      addMerge(tables, merge, from + offset, names);
    });
  }
}

function addToken(tables: BpeTables, token: string, id: unknown, file: string): void {
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > LARGEST_ID) {
    throw new TokenizerError(
      `${file}: the id of token ${show(token)} must be an integer from 0 up, but is ${show(id)}.`,
    );
  }
  const holder = tables.vocab[id];
  if (holder !== undefined) {
    throw new TokenizerError(`${file}: tokens ${show(holder)} and ${show(token)} both have id ${id}.`);
  }
  tables.vocab[id] = token;
  tables.tokens_to_ids.set(token, id);
}

function addMerge(tables: BpeTables, merge: RawMerge, index: number, names: TableNames): void {
  if (index === 0 && typeof merge === 'string' && merge.startsWith('#version')) return;
  const pair = typeof merge === 'string' ? merge.split(' ') : merge;
  if (!isPair(pair)) {
    throw new TokenizerError(`${names.merge(index)} must be two tokens, but is ${show(merge)}.`);
  }
  for (const token of [pair[0], pair[1], pair[0] + pair[1]]) {
    if (!tables.tokens_to_ids.has(token)) {
      throw new TokenizerError(
        `${names.merge(index)} (${show(merge)}) needs the token ${show(token)}, which ${names.vocab} does not have.`,
      );
    }
  }
  tables.bpe_ranks.set(JSON.stringify([pair[0], pair[1]]), index);
}

function isPair(value: unknown): value is [string, string] {
  return (
    Array.isArray(value) &&
    value.length === 2 &&
    value.every((part) => typeof part === 'string' && part !== '')
  );
}
