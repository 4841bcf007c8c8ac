import type { Context } from 'hono';
import type * as z from 'zod';
import { issueText } from '../errors.ts';
import { ApiError } from './api-error.ts';

/**
 * The JSON body of a request, checked. Fields that are not known are let pass, as clients send those of other servers.
 * @throws ApiError that names the field
 */
export async function readBody<T extends z.ZodType>(c: Context, schema: T): Promise<z.output<T>> {
  let body: unknown;
  try {
    body = JSON.parse(await c.req.text());
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
  return levels === 0 || Object.values(value).some((part) => isDeeperThan(part, levels - 1));
}

/** A field that may be left out or null, which say the same. */
export function maybe<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform((value) => value ?? undefined);
}
