import { HubError, show } from '../../errors.ts';
import { defaultToken, hubEndpoint, timeouts } from '../environment.ts';
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
  /** Files transferred at once. */
  filesAtOnce: number;
  /** Silence after which a connection counts as dropped, ms. */
  metadataTimeoutMs: number;
  downloadTimeoutMs: number;
}

/** One repo on one hub, as one caller may see it. */
export interface HubConnection {
  /** `organisation/name`. */
  readonly id: string;
  readonly revision: string;
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly settings: TransferSettings;
}

export async function openConnection(
  id: string,
  revision: string,
  options: HubOptions,
  settings: Partial<TransferSettings>,
): Promise<HubConnection> {
  const { metadata, download } = timeouts();
  const endpoint = hubEndpoint();
  if (!/^https?:/.test(endpoint) || !URL.canParse(endpoint)) {
    throw new HubError(
      `HF_ENDPOINT is ${show(endpoint)}; it must be an address such as "https://hub.example.org"`,
    );
  }
  return {
    id,
    revision,
    endpoint,
    token: options.token || (await defaultToken()),
    signal: options.signal,
    settings: {
      retries: 5,
      firstPauseMs: 500,
      longestPauseMs: 10_000,
      longestWaitMs: 120_000,
      filesAtOnce: 4,
      metadataTimeoutMs: metadata,
      downloadTimeoutMs: download,
      ...settings,
    },
  };
}
