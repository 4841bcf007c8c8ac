import { abortIf } from '../errors.ts';
import type { ChatMessage } from '../index.ts';
import { ConnectionError } from '../net/connection-error.ts';
import { discard, get, type HttpAnswer } from '../net/get.ts';
import { isPublic } from '../net/public-address.ts';
import type { AnswerRequest } from './answer-request.ts';
import { ApiError } from './api-error.ts';

/** What a server fetches for its clients. */
export interface FetchRules {
  /** Names of hosts, or `*`. */
  readonly hosts: readonly string[];
  readonly maxBytes: number;
  /** Which addresses hosts may have. */
  readonly allows?: (address: string) => boolean;
}

const MAX_REDIRECTS = 3;
/** For one picture, in milliseconds. */
const PATIENCE = 30_000;

/** Whether a picture may be fetched from a URL. */
export function mayFetch(url: URL, hosts: readonly string[]): boolean {
  const isWeb = url.protocol === 'http:' || url.protocol === 'https:';
  return isWeb && !url.username && !url.password && (hosts.includes('*') || hosts.includes(url.hostname));
}

/**
 * Puts pictures in the place of their addresses, each fetched once.
 * @throws ApiError for what cannot or may not be fetched; AbortError
 */
export async function withPictures(
  requests: readonly AnswerRequest[],
  rules: FetchRules,
  signal: AbortSignal,
): Promise<readonly AnswerRequest[]> {
  const fetched = new Map<string, Promise<Uint8Array>>();
  const fetchOnce = (url: URL) => {
    const bytes = fetched.get(url.href) ?? fetchPicture(url, rules, signal);
    fetched.set(url.href, bytes);
    return bytes;
  };
  const filled = async (message: ChatMessage): Promise<ChatMessage> => {
    const { content } = message;
    if (!Array.isArray(content)) return message;
    const parts = content.map(async (part: Readonly<Record<string, unknown>>) =>
      part.image instanceof URL ? { ...part, image: await fetchOnce(part.image) } : part,
    );
    return { ...message, content: await Promise.all(parts) };
  };
  return Promise.all(
    requests.map(async (request) => {
      const { prompt } = request;
      if (!('messages' in prompt)) return request;
      const messages = await Promise.all(prompt.messages.map(filled));
      return { ...request, prompt: { ...prompt, messages } };
    }),
  );
}

/** The bytes of a picture on the web. Only public addresses are asked, also by redirects, and no proxy. @throws as {@link withPictures} */
export async function fetchPicture(url: URL, rules: FetchRules, signal: AbortSignal): Promise<Uint8Array> {
  const late = AbortSignal.timeout(PATIENCE);
  const fail = (why: string) => new ApiError(400, `The picture ${url.href} cannot be fetched: ${why}`);
  try {
    const { status, body } = await follow(url, rules, AbortSignal.any([signal, late]));
    if (status !== 200) {
      body.destroy();
      throw fail(`its server answered ${status}`);
    }
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of body) {
      bytes += (piece as Buffer).length;
      // Leaving the loop ends the connection.
      if (bytes > rules.maxBytes) throw fail(`it has more than ${rules.maxBytes} bytes`);
      pieces.push(piece as Buffer);
    }
    return Buffer.concat(pieces);
  } catch (error) {
    abortIf(signal, 'the request');
    if (error instanceof ApiError) throw error;
    if (late.aborted) throw fail(`it took more than ${PATIENCE / 1000} seconds`);
    throw fail(error instanceof ConnectionError ? error.message : 'the connection broke');
  }
}

async function follow(
  url: URL,
  { hosts, allows = isPublic }: FetchRules,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  let target = url;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const answer = await get(target, { accept: 'image/*', 'accept-encoding': 'identity' }, signal, allows);
    const location = answer.headers.get('location');
    if (![301, 302, 303, 307, 308].includes(answer.status) || location === null) return answer;
    discard(answer);
    if (!URL.canParse(location, target.href))
      throw new ConnectionError('it is sent to no address', 'setting');
    target = new URL(location, target);
    if (!mayFetch(target, hosts))
      throw new ConnectionError(`it is sent on to ${target.host}, from where none is fetched`, 'setting');
  }
  throw new ConnectionError(`it is sent on more than ${MAX_REDIRECTS} times`, 'setting');
}
