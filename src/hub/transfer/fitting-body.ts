import type { HttpAnswer } from '../../net/get.ts';
import type { HubConnection } from './connection.ts';
import type { RemoteFile } from './remote-file.ts';
import { siteOf } from './request.ts';

/** Whether an answer's bytes go on exactly where we are. */
export function continues({ status, headers }: HttpAnswer, bytes: number): boolean {
  if (status === 200) return bytes === 0;
  const range = /^bytes (\d+)-/.exec(headers.get('content-range') ?? '');
  return status === 206 && range !== null && Number(range[1]) === bytes;
}

/**
 * Says what came where an answer cannot be the file that the hub announced, however often one asks: another size, an
 * HTML page, packed bytes. Undefined for an answer that may be the file.
 *
 * @param pieces the body; of a page, the first piece is taken to look at it
 */
export async function findStrayBody(
  response: HttpAnswer,
  pieces: AsyncIterator<Buffer>,
  hub: HubConnection,
  file: RemoteFile,
): Promise<string | undefined> {
  const { status, headers, url } = response;
  const encoding = headers.get('content-encoding') ?? 'identity';
  const length = headers.get('content-length');
  const whole = status === 200 ? length : (/\/(\d+)$/.exec(headers.get('content-range') ?? '')?.[1] ?? null);
  const isPage = isPageInstead(headers, file.path);
  const name = `${file.path} of ${hub.id}`;
  if (status === 200 && (encoding !== 'identity' || (isPage && Number(length ?? -1) !== file.size))) {
    const { value: start = Buffer.alloc(0) } = await pieces.next();
    return (
      `instead of ${name} came ${describeBody(response, start)}, from ${url.origin}. Something in between answers in its ` +
      'place or changes it: check the proxy, the network and HF_ENDPOINT'
    );
  }
  if (whole === null || Number(whole) === file.size) return undefined;
  const site = siteOf(hub, url);
  const found =
    Number(whole) > file.size
      ? `${whole} bytes, longer than the ${file.size} bytes`
      : `only ${whole} of ${file.size} bytes`;
  return (
    `${name}: ${site} has ${found} that ${hub.endpoint} announced. The repo and its storage do not agree; ` +
    'try again later, or another revision'
  );
}

/** Whether an answer is an HTML page where the file asked for is none. */
export function isPageInstead(headers: Headers, path: string): boolean {
  return /^text\/html/i.test(headers.get('content-type') ?? '') && !/\.html?$/i.test(path);
}

/** What a body looks like that is not what was asked for: "an HTML page titled "Sign in"". */
export function describeBody({ headers }: HttpAnswer, start: Uint8Array): string {
  const encoding = headers.get('content-encoding');
  if (encoding && encoding !== 'identity') return `bytes packed with ${encoding.slice(0, 40)}`;
  if (start.length === 0) return 'an empty body';
  const text = Buffer.from(start.subarray(0, 4096))
    .toString('utf8')
    .replace(/^\ufeff/, '')
    .trim();
  const type = headers.get('content-type')?.split(';')[0]?.trim().slice(0, 60);
  if (type === 'text/html' || /^<(!doctype html|html|head|body)\b/i.test(text)) {
    const title = /<title[^>]*>\s*([^<]{1,100})/i.exec(text)?.[1]?.trim();
    return title ? `an HTML page titled ${JSON.stringify(title)}` : 'an HTML page';
  }
  return type ? `content of the type ${type}` : 'content without a type';
}
