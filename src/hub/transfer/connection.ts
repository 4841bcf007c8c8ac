import { expected, HubError } from '../../errors.ts';
import { percentDecoded } from '../../net/percent.ts';
import { minDownloadSpeed, SPEED_WINDOW_MS } from '../../net/watchdog.ts';
import { checkToken, defaultToken, hubEndpoint, timeouts } from '../environment.ts';
import type { HubOptions } from '../types.ts';

/** How patiently and how widely the hub is used. Callers of the library keep the defaults. */
export interface TransferSettings {
  /** Attempts after the first one; a transfer that gained bytes starts counting anew. */
  retries: number;
  /** First pause between attempts, ms; doubles each time, with jitter. */
  firstPauseMs: number;
  /** Longest pause between attempts, ms; a server may ask for more, up to `longestWaitMs`. */
  longestPauseMs: number;
  /** A server that asks for a longer pause than this is reported instead, ms. */
  longestWaitMs: number;
  /** A pause this long is told to the user, ms. */
  toldPauseMs: number;
  /** Files transferred at once. */
  filesAtOnce: number;
  /** Silence after which a connection counts as dropped, ms. */
  metadataTimeoutMs: number;
  downloadTimeoutMs: number;
  /** A body that comes more slowly than this, over a window, counts as dropped. */
  minBytesPerSecond: number;
  speedWindowMs: number;
}

/** One repo on one hub, as one caller may see it. */
export interface HubConnection {
  /** `organisation/name`. */
  readonly id: string;
  readonly revision: string;
  /** Base of all addresses, without credentials and slash at the end. */
  readonly endpoint: string;
  /** `user:password` of the endpoint, where it has them. */
  readonly credentials: string | undefined;
  readonly token: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly settings: TransferSettings;
  readonly onWarning: ((message: string) => void) | undefined;
  /** Shared by all who use the connection. */
  readonly state: {
    /** The hub has served something of the repo: a failure from now on is of another kind. */
    answered: boolean;
  };
}

/** @throws HubError for an endpoint or token that cannot be right */
export async function openConnection(
  id: string,
  revision: string,
  options: HubOptions,
  settings: Partial<TransferSettings>,
): Promise<HubConnection> {
  const { metadata, download } = timeouts();
  return {
    id,
    revision,
    ...parseEndpoint(hubEndpoint()),
    token: options.token?.trim() ? checkToken(options.token, 'the token') : await defaultToken(),
    signal: options.signal,
    onWarning: options.onWarning,
    state: { answered: false },
    settings: {
      retries: 5,
      firstPauseMs: 500,
      longestPauseMs: 10_000,
      longestWaitMs: 120_000,
      toldPauseMs: 750,
      filesAtOnce: 4,
      metadataTimeoutMs: metadata,
      downloadTimeoutMs: download,
      minBytesPerSecond: minDownloadSpeed(),
      speedWindowMs: SPEED_WINDOW_MS,
      ...settings,
    },
  };
}

function parseEndpoint(text: string): Pick<HubConnection, 'endpoint' | 'credentials'> {
  const url = /^https?:\/\//.test(text) && URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.search !== '' || url.hash !== '') {
    throw new HubError(
      expected('HF_ENDPOINT', text.replace(/\/\/.*@/, '//'), 'an address such as "https://hub.example.org"'),
    );
  }
  const { username, password } = url;
  url.username = '';
  url.password = '';
  const credentials = username === '' ? undefined : percentDecoded(`${username}:${password}`);
  return { endpoint: url.href.replace(/\/+$/, ''), credentials };
}
