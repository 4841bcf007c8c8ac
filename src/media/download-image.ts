import { abortIf, InputError } from '../errors.ts';
import { ConnectionError } from '../net/connection-error.ts';
import { discard, get, type HttpAnswer } from '../net/get.ts';
import { minDownloadSpeed, SPEED_WINDOW_MS, Watchdog } from '../net/watchdog.ts';

const MAX_REDIRECTS = 10;
/** Servers of pictures may make them first. */
const SILENCE_MS = 60_000;

/**
 * The bytes of a picture on the web, through the proxy that the environment names.
 *
 * @param source names the picture in messages
 * @param check called with the number of bytes so far; throws where they are too many
 * @throws InputError; AbortError
 */
export async function downloadImage(
  url: string,
  source: string,
  check: (bytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const minBytesPerSecond = minDownloadSpeed();
  const patience = { silenceMs: SILENCE_MS, minBytesPerSecond, speedWindowMs: SPEED_WINDOW_MS };
  const watchdog = new Watchdog(patience, signal);
  try {
    const answer = await follow(url, source, watchdog.signal);
    if (answer.status !== 200) {
      discard(answer);
      throw new InputError(
        `${source}: the server answered ${answer.status} ${answer.body.statusMessage}`.trimEnd(),
      );
    }
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of answer.body) {
      watchdog.received((piece as Buffer).length);
      bytes += (piece as Buffer).length;
      check(bytes);
      pieces.push(piece as Buffer);
    }
    return Buffer.concat(pieces);
  } catch (error) {
    if (error instanceof InputError) throw error;
    abortIf(signal, `loading ${source}`);
    throw new InputError(`${source}: cannot be downloaded: ${reasonOf(error, watchdog)}`, { cause: error });
  } finally {
    watchdog.stop();
  }
}

function reasonOf(error: unknown, { ending }: Watchdog): string {
  if (ending === 'silent') return 'the server went silent';
  if (ending === 'slow') return `the server sends less than ${minDownloadSpeed()} bytes a second`;
  const { code, message } = error as NodeJS.ErrnoException;
  return error instanceof ConnectionError ? message : `the connection broke (${code ?? message})`;
}

async function follow(url: string, source: string, signal: AbortSignal): Promise<HttpAnswer> {
  let target = parse(url, source);
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const answer = await get(target, { accept: 'image/*,*/*;q=0.5', 'accept-encoding': 'identity' }, signal);
    const location = answer.headers.get('location');
    if (![301, 302, 303, 307, 308].includes(answer.status) || location === null) return answer;
    discard(answer);
    target = parse(location, source, target);
    if (!/^https?:$/.test(target.protocol))
      throw new InputError(`${source}: the server redirects to ${target.protocol}, which is not followed`);
  }
  throw new InputError(`${source}: the server redirects more than ${MAX_REDIRECTS} times`);
}

function parse(url: string, source: string, base?: URL): URL {
  if (!URL.canParse(url, base?.href)) throw new InputError(`${source} is not a valid URL`);
  return new URL(url, base);
}
