import { HubError } from '../../errors.ts';
import type { HttpAnswer } from '../../net/get.ts';
import { viaProxy } from '../../net/proxy.ts';
import { spellingHint } from '../repo-spelling.ts';
import type { HubConnection } from './connection.ts';

/** The hub will not serve this caller: the repo is gated, private, missing or disabled. Cached files may still serve. */
export class RefusedError extends HubError {
  /** The hub has no such address: it may be a mirror that serves files only. */
  readonly unknownAddress: boolean;

  constructor(message: string, unknownAddress = false) {
    super(message);
    this.unknownAddress = unknownAddress;
  }
}

/** What says that an address is none, where no `X-Error-Code` says what is missing behind it. */
const UNKNOWN_ADDRESS = new Set([400, 404, 405, 410, 501]);

/**
 * The error for a refused request, with its remedy; undefined when only the file is missing. The hub tells the cases
 * apart in `X-Error-Code` (huggingface_hub, `utils/_http.py`, `hf_raise_for_status`).
 */
export function refusal(hub: HubConnection, { status, headers, url }: HttpAnswer): HubError | undefined {
  const code = headers.get('x-error-code') ?? '';
  const { id, endpoint, revision } = hub;
  if (code === 'EntryNotFound') return undefined;
  if (code === 'GatedRepo') return new RefusedError(gated(hub, status));
  if (code === 'RevisionNotFound') {
    // The repo exists: what is cached under the name of a revision that does not would be another thing.
    return new HubError(
      `${id} has no revision "${revision}" (${status}). See ${endpoint}/${id}/refs for its branches and tags`,
    );
  }
  const said = headers.get('x-error-message');
  // A proxy that refuses an address answers as if it were the server.
  const words = said ? `, "${said.slice(0, 300)}"` : viaProxy(url);
  if (status === 401 && hub.state.answered) return new RefusedError(expired(hub));
  if (code === 'RepoNotFound' || status === 401) return new RefusedError(notFound(hub, status));
  if (status === 403 && url.origin !== new URL(endpoint).origin) {
    return new RefusedError(
      `${url.host}, where ${endpoint} keeps the files of ${id}, refuses them (403${words}). Try again; if that does not help, ` +
        'a proxy or firewall may stand between',
    );
  }
  if (status === 403) return new RefusedError(forbidden(hub, words));
  if (status === 404) return undefined;
  return new RefusedError(
    `${endpoint} refuses ${id}: ${status}${words}`,
    code === '' && UNKNOWN_ADDRESS.has(status),
  );
}

function gated({ id, endpoint, token }: HubConnection, status: number): string {
  const remedy =
    token === undefined
      ? 'then set HF_TOKEN or pass a token of your account'
      : 'with the account of the token in use; access may still be pending';
  return `${id} is gated (${status}). Accept its conditions at ${endpoint}/${id}, ${remedy}`;
}

/** The repo that nobody knows, or knows of. */
export function notFound({ id, endpoint, token }: HubConnection, status: number): string {
  const remedy =
    token === undefined
      ? 'for a private one set HF_TOKEN or pass a token'
      : 'if it is private, the token in use is invalid or has no access to it';
  return `${id} was not found at ${endpoint} (${status}). ${spellingHint(id) || 'Check the spelling'}; ${remedy}`;
}

function expired({ id, endpoint, token }: HubConnection): string {
  const remedy =
    token === undefined
      ? 'It now wants to know who asks: set HF_TOKEN or pass a token'
      : 'The token in use has expired or was revoked meanwhile: set another one';
  return `${endpoint} has served ${id} so far and now refuses it (401). ${remedy}, and what has arrived will be continued`;
}

function forbidden({ id, endpoint, token }: HubConnection, words: string): string {
  const remedy =
    token === undefined ? 'Set HF_TOKEN or pass a token' : 'The token in use lacks permission to read it';
  return `${endpoint} forbids access to ${id} (403${words}). ${remedy}`;
}
