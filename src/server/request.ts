import type { Context } from 'hono';
import * as z from 'zod';
import { issueText, plainIssue } from '../errors.ts';
import { isDeeperThan } from '../json.ts';
import { ApiError } from './api-error.ts';
import type { Bodies } from './bodies.ts';

/**
 * The JSON body of a request, checked. Fields that are not known are let pass, as clients send those of other servers.
 * @throws ApiError that names the field
 */
export async function readBody<T extends z.ZodType>(
  c: Context,
  bodies: Bodies,
  schema: T,
): Promise<z.output<T>> {
  const text = await bodies.read(c);
  if (isDeeperThan(text, DEEPEST))
    throw new ApiError(400, `The body is nested more than ${DEEPEST} levels deep`);
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) throw new ApiError(400, `The body is no JSON: ${error.message}`);
    throw error;
  }
  const large = largeObject(body)?.join('.');
  if (large !== undefined)
    throw new ApiError(400, `${large || 'the content'} has more than ${MOST_ENTRIES} members`, {
      param: large || null,
    });
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issue = plainIssue(result.error.issues[0] as z.core.$ZodIssue);
  throw new ApiError(400, issueText(issue, body), { param: issue.path.map(String).join('.') || null });
}

/** Levels of a body. What answers repeat of it must be written again, which JSON.stringify does on the stack. */
const DEEPEST = 1000;

/** Of an object with very many members no member is looked at. @returns the path of one, if there is any */
function largeObject(value: unknown): string[] | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const keys = Array.isArray(value) ? value.keys() : Object.keys(value);
  if (Array.isArray(keys) && keys.length > MOST_ENTRIES) return [];
  for (const key of keys) {
    const below = largeObject((value as Record<string, unknown>)[key]);
    if (below) return [String(key), ...below];
  }
  return undefined;
}

/** Entries of lists and objects of a request, such as messages. */
const MOST_ENTRIES = 65_536;
/** Ids of a list; no model reads as many. */
const MOST_IDS = 2 ** 21;

/** A list of so many entries at most, checked up to the first that is faulty: of millions there would be as much to say. */
export function listOf<T extends z.ZodType>(entry: T, { least = 0, most = MOST_ENTRIES } = {}) {
  return z.unknown().transform((given, context): z.output<T>[] => {
    const fail = (message: string) => {
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    };
    if (!Array.isArray(given)) {
      context.addIssue({ code: 'invalid_type', expected: 'array', input: given });
      return z.NEVER;
    }
    if (given.length < least || given.length > most)
      return fail(`expected a list of ${least} to ${most} entries`);
    const list: z.output<T>[] = [];
    for (const [i, value] of given.entries()) {
      const { success, data, error } = entry.safeParse(value);
      if (!success) {
        const { path, message } = plainIssue(error.issues[0] as z.core.$ZodIssue);
        context.addIssue({ code: 'custom', path: [i, ...path], message });
        return z.NEVER;
      }
      list.push(data);
    }
    return list;
  });
}

/** Ids of tokens. */
export const idList = (least: number) => listOf(z.int().min(0), { least, most: MOST_IDS });

/** A field that may be left out or null, which say the same. */
export function maybe<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform((value) => value ?? undefined);
}
