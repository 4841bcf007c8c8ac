import { InputError, show } from '../errors.ts';

/** A checked batch of prompts. */
export interface Prompts {
  /** Rows as the caller gave them, padding included. */
  given: readonly (readonly number[])[];
  /** [rows, width]; padding that all rows share is cut off. */
  inputIds: readonly (readonly number[])[];
  /** [rows, width]; each row is zeros, then ones. */
  attentionMask: readonly (readonly number[])[];
}

/**
 * Checks prompts: plain lists of token ids, all rows of one length, padded on the left, no row empty.
 *
 * @throws {InputError} names row and position.
 */
export function checkPrompts(inputIds: unknown, attentionMask: unknown, vocabSize: number): Prompts {
  const ids = checkRows(inputIds, 'inputIds', (id) => {
    if (Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize) return undefined;
    return `must be a token id, an integer from 0 to ${vocabSize - 1}`;
  });
  const width = (ids[0] as readonly number[]).length;
  const ragged = ids.findIndex((row) => row.length !== width);
  if (ragged !== -1) {
    throw new InputError(
      `inputIds: row ${ragged} has ${ids[ragged]?.length} tokens, row 0 has ${width}. Pad shorter rows on the left and ` +
        'pass attentionMask; calling the tokenizer on a list of texts does both.',
    );
  }
  const mask =
    attentionMask === undefined ? ids.map((row) => row.map(() => 1)) : checkMask(attentionMask, ids);
  const empty = mask.findIndex((row) => !row.includes(1));
  if (empty !== -1) throw new InputError(`The prompt of row ${empty} is empty. Give it at least one token.`);
  const shared = Math.min(...mask.map((row) => row.indexOf(1)));
  const cut = (row: readonly number[]) => row.slice(shared);
  return { given: ids, inputIds: ids.map(cut), attentionMask: mask.map(cut) };
}

function checkRows(
  value: unknown,
  name: string,
  faultOf: (item: unknown) => string | undefined,
): readonly (readonly number[])[] {
  if (!Array.isArray(value) || value.length === 0 || !value.every(Array.isArray)) {
    const hint = Array.isArray(value) && typeof value[0] === 'number' ? ' Wrap a single prompt: [ids].' : '';
    throw new InputError(
      `${name} must be a list of rows, each a plain list of numbers, but is ${show(value)}.${hint}`,
    );
  }
  value.forEach((row: unknown[], r) => {
    for (let position = 0; position < row.length; position++) {
      const fault = faultOf(row[position]);
      if (fault)
        throw new InputError(
          `${name}: row ${r}, position ${position} is ${show(row[position])}, but ${fault}.`,
        );
    }
  });
  return value;
}

function checkMask(value: unknown, ids: readonly (readonly number[])[]): readonly (readonly number[])[] {
  const mask = checkRows(value, 'attentionMask', (item) =>
    item === 0 || item === 1 ? undefined : 'must be 0 or 1',
  );
  if (mask.length !== ids.length) {
    throw new InputError(
      `attentionMask has ${mask.length} rows, inputIds has ${ids.length}. They must have one shape.`,
    );
  }
  mask.forEach((row, r) => {
    if (row.length !== ids[r]?.length) {
      throw new InputError(
        `attentionMask: row ${r} has ${row.length} entries, its prompt has ${ids[r]?.length}. They must have one shape.`,
      );
    }
    const start = row.indexOf(1);
    const gap = start === -1 ? -1 : row.indexOf(0, start);
    if (gap !== -1) {
      throw new InputError(
        `attentionMask: row ${r}, position ${gap} is 0 after a 1. Padding must stand on the left, as the tokenizer puts it.`,
      );
    }
  });
  return mask;
}
