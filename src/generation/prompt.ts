import { expected, InputError } from '../errors.ts';
import type { PromptRow } from './types.ts';

/** Rows of numbers as callers have them: lists, or typed arrays. */
export type TokenRows = readonly ArrayLike<number | bigint>[];

/** A checked batch of prompts; rows of our own, whatever becomes of the caller's. */
export interface Prompts {
  /** For guidance: what each row is to lead away from. */
  negative?: readonly PromptRow[];
  /** Rows as the caller gave them, padding included. */
  readonly given: readonly (readonly number[])[];
  /** The same without padding. */
  readonly rows: readonly PromptRow[];
}

/**
 * Checks prompts: lists of token ids (also typed arrays, and whole numbers as bigint), all rows of one length, padded on the left, no row
 * empty.
 *
 * @throws {InputError} names row and position.
 */
export function checkPrompts(inputIds: unknown, attentionMask: unknown, vocabSize: number): Prompts {
  const ids = checkIds(inputIds, 'inputIds', vocabSize);
  const width = (ids[0] as readonly number[]).length;
  const ragged = ids.findIndex((row) => row.length !== width);
  if (ragged !== -1) {
    throw new InputError(
      `inputIds: row ${ragged} has ${ids[ragged]?.length} tokens, row 0 has ${width}. Pad shorter rows on the left and ` +
        'pass attentionMask; calling the tokenizer on a list of texts does both',
    );
  }
  const mask =
    (attentionMask ?? undefined) === undefined
      ? ids.map((row) => row.map(() => 1))
      : checkMask(attentionMask, ids);
  const empty = mask.findIndex((row) => !row.includes(1));
  if (empty !== -1) throw new InputError(`The prompt of row ${empty} is empty. Give it at least one token`);
  const rows = ids.map((row, r) => ({ ids: row.slice(mask[r]?.indexOf(1)) }));
  return { given: ids, rows };
}

/** Copies rows of token ids, of whatever lengths. @throws InputError naming row and position */
export function checkIds(value: unknown, name: string, vocabSize: number): number[][] {
  return checkRows(value, name, vocabSize - 1, `a token id, an integer from 0 to ${vocabSize - 1}`);
}

/** Copies rows of whole numbers from 0 to `most`. @throws InputError naming row and position */
export function checkRows(value: unknown, name: string, most: number, wanted: string): number[][] {
  // A loop by index, here and below, because the methods of arrays pass over holes.
  const rows = Array.isArray(value) ? Array.from(value as unknown[]) : [];
  if (rows.length === 0 || !rows.every(isRow)) {
    throw new InputError(
      expected(name, value, `a list of rows, each a plain list of numbers or a typed array${hintFor(value)}`),
    );
  }
  return rows.map((row, r) => {
    const copy = Array.from({ length: row.length }, (_, i) => {
      const item = row[i];
      return typeof item === 'bigint' ? Number(item) : (item as number);
    });
    for (let position = 0; position < copy.length; position++) {
      const id = copy[position];
      if (!(Number.isInteger(id) && (id as number) >= 0 && (id as number) <= most))
        throw new InputError(expected(`${name}: row ${r}, position ${position}`, row[position], wanted));
    }
    return copy;
  });
}

function isRow(row: unknown): row is ArrayLike<unknown> {
  return Array.isArray(row) || (ArrayBuffer.isView(row) && !(row instanceof DataView));
}

function hintFor(value: unknown): string {
  if (typeof value === 'object' && value !== null && 'dims' in value)
    return '; of a tensor take the rows: Array.from({ length: rows }, (_, r) => data.slice(r * width, (r + 1) * width))';
  const first: unknown = (value as ArrayLike<unknown> | undefined | null)?.[0];
  return isRow(value) && (typeof first === 'number' || typeof first === 'bigint')
    ? '. Wrap a single prompt: [ids]'
    : '';
}

function checkMask(value: unknown, ids: readonly (readonly number[])[]): number[][] {
  const mask = checkRows(value, 'attentionMask', 1, '0 or 1');
  if (mask.length !== ids.length) {
    throw new InputError(
      `attentionMask has ${mask.length} rows, inputIds has ${ids.length}. They must have one shape`,
    );
  }
  mask.forEach((row, r) => {
    if (row.length !== ids[r]?.length) {
      throw new InputError(
        `attentionMask: row ${r} has ${row.length} entries, its prompt has ${ids[r]?.length}. They must have one shape`,
      );
    }
    const start = row.indexOf(1);
    const gap = start === -1 ? -1 : row.indexOf(0, start);
    if (gap !== -1) {
      throw new InputError(
        `attentionMask: row ${r}, position ${gap} is 0 after a 1. Padding must stand on the left, as the tokenizer puts it`,
      );
    }
  });
  return mask;
}
