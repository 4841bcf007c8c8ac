import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { abortable, abortIf, issueText } from '../errors.ts';
import type { Server } from '../server/index.ts';
import { formatBytes } from '../units.ts';
import { type BatchLine, LONGEST_LINE } from './lines.ts';
import { ANSWERING, type BatchResult, isServersFault, resultId } from './result.ts';

/** Endpoints that a batch may ask. */
const URLS = ['/v1/chat/completions', '/v1/completions', '/v1/responses', '/v1/messages'] as const;

const request = z.looseObject({
  custom_id: z.string().min(1),
  method: z.literal('POST'),
  url: z.enum(URLS),
  body: z
    .record(z.string(), z.unknown())
    .refine((body) => !body.stream, { message: 'a batch does not stream; leave it out', path: ['stream'] }),
});

/** The first pause before another attempt, in milliseconds; each further one is twice as long. */
const FIRST_PAUSE = 500;

/**
 * Answers a line: what an endpoint responds to its request, or why it is none.
 * @param retries further attempts where the server is at fault
 * @throws AbortError
 */
export async function answerLine(
  server: Server,
  line: BatchLine,
  { retries, signal }: { retries: number; signal: AbortSignal },
): Promise<BatchResult> {
  const id = resultId(line.number);
  const parsed = parseLine(line);
  if ('fault' in parsed) {
    const error = { code: 'invalid_request', message: `line ${line.number}: ${parsed.fault}` };
    return { id, custom_id: parsed.customId, response: null, error };
  }
  const { custom_id, url } = parsed.request;
  for (let attempt = 0; ; attempt++) {
    const result: BatchResult = {
      ...{ id, custom_id },
      response: await abortable(signal, ANSWERING, () => respond(server, url, parsed.body, signal)),
      error: null,
    };
    abortIf(signal, ANSWERING);
    if (attempt >= retries || !isServersFault(result)) return result;
    await abortable(signal, ANSWERING, () => sleep(FIRST_PAUSE * 2 ** attempt, undefined, { signal }));
  }
}

function parseLine({
  text,
  isTooLong,
}: BatchLine):
  | { request: z.output<typeof request>; body: string }
  | { fault: string; customId: string | null } {
  if (isTooLong)
    return { fault: `it is longer than ${formatBytes(LONGEST_LINE)}; make several of it`, customId: null };
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    return { fault: `it is no JSON: ${(error as Error).message}`, customId: null };
  }
  const result = request.safeParse(json);
  if (result.success) {
    const { data } = result;
    try {
      return { request: data, body: JSON.stringify(data.body) };
    } catch {
      // JSON is parsed at any depth, but not written.
      return { fault: 'its body is nested too deeply', customId: data.custom_id };
    }
  }
  const given = (json as { custom_id?: unknown } | null)?.custom_id;
  return {
    fault: issueText(result.error.issues[0] as z.core.$ZodIssue, json),
    customId: typeof given === 'string' ? given : null,
  };
}

async function respond(server: Server, url: string, body: string, signal: AbortSignal) {
  const response = await server.app.fetch(
    new Request(`http://batch${url}`, { method: 'POST', body, signal }),
  );
  return {
    status_code: response.status,
    request_id: response.headers.get('x-request-id') ?? '',
    body: (await response.json()) as unknown,
  };
}
