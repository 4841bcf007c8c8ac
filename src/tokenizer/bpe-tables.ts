import { show, TokenizerError } from '../errors.ts';
import type { TokenizerFiles } from './tokenizer-files.ts';

/** The tables of the library's BPE model that are filled here. */
export interface BpeTables {
  vocab: string[];
  tokens_to_ids: Map<string, number>;
  /** Rank of each merge; the key is the JSON of `[left, right]`, as the library looks it up. */
  bpe_ranks: Map<string, number>;
}

// Entries handled between two turns of the event loop: one or two milliseconds of work.
const SLICE = 1024;
// Ids index an array; anything larger is damage, not a vocabulary.
const LARGEST_ID = 2 ** 24;

/**
 * Fills the vocabulary and the merge ranks of a BPE model, a slice per turn of the event loop.
 *
 * @param file names the vocabulary in messages
 * @throws {TokenizerError} an entry is malformed, or an id occurs twice.
 */
export async function fillBpeTables(tables: BpeTables, files: TokenizerFiles, file: string): Promise<void> {
  if (!files.vocabCount) {
    throw new TokenizerError(`${file} must be an object of token → id with at least one entry.`);
  }
  tables.vocab = new Array(files.vocabCount);
  tables.tokens_to_ids.clear();
  tables.bpe_ranks.clear();
  for (let from = 0; from < files.vocabCount; from += SLICE) {
    for (const [token, id] of await files.vocab(from, from + SLICE)) addToken(tables, token, id, file);
  }
  for (let from = 0; from < (files.mergeCount ?? 0); from += SLICE) {
    const keys = await files.merges(from, from + SLICE);
    keys.forEach((key, offset) => {
      if (key !== null) tables.bpe_ranks.set(key, from + offset);
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
