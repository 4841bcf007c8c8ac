import type { Context } from 'hono';
import * as z from 'zod';
import { issueText } from '../errors.ts';
import { ApiError, badField } from './api-error.ts';
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
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) throw new ApiError(400, `The body is no JSON: ${error.message}`);
    throw error;
  }
  if (isDeeperThan(body, DEEPEST))
    throw new ApiError(400, `The body is nested more than ${DEEPEST} levels deep`);
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issue = result.error.issues[0] as z.core.$ZodIssue;
  throw new ApiError(400, issueText(issue, body), { param: issue.path.map(String).join('.') || null });
}

/** Levels of a body. What answers repeat of it must be written again, which JSON.stringify does on the stack. */
const DEEPEST = 1000;

function isDeeperThan(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const parts: readonly unknown[] = Array.isArray(value) ? value : Object.values(value);
  return levels === 0 || parts.some((part) => isDeeperThan(part, levels - 1));
}

/** Entries of lists and objects of a request, such as messages. */
export const MOST_ENTRIES = 65_536;
/** Ids of a list; no model reads as many. */
const MOST_IDS = 2 ** 21;

/** A list of so many entries at most, checked up to the first that is faulty: of millions there would be as much to say. */
export function listOf<T extends z.ZodType>(entry: T, { least = 0, most = MOST_ENTRIES } = {}) {
  return z.unknown().transform((given, context): z.output<T>[] => {
    const fail = (message: string) => {
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    };
    if (!Array.isArray(given)) return fail('expected a list');
    if (given.length < least || given.length > most)
      return fail(`expected a list of ${least} to ${most} entries`);
    const list: z.output<T>[] = [];
    for (const [i, value] of given.entries()) {
      const { success, data, error } = entry.safeParse(value);
      if (!success) {
        const { path, message } = error.issues[0] as z.core.$ZodIssue;
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

/**
 * For endpoints whose answers have no place for what only the completions tell of their tokens.
 * @throws ApiError that names the field that asks for it
 */
export function refuseTokenDetails(body: Readonly<Record<string, unknown>>): void {
  const name = ['logprobs', 'top_logprobs', 'return_routed_experts'].find((one) => body[one]);
  if (name !== undefined) throw badField(name, 'is not taken here; /v1/chat/completions takes it');
}
