import { HubError } from '../../errors.ts';
import type { HubConnection } from './connection.ts';

/** The hub will not serve this caller: the repo is gated, private, missing or disabled. Cached files may still serve. */
export class RefusedError extends HubError {}

/** The repo exists, the revision does not; what is cached under the same name would be another thing. */
export class RevisionError extends HubError {}

/**
 * The error for a refused request, with its remedy; undefined when only the file is missing. The hub tells the cases
 * apart in `X-Error-Code` (huggingface_hub, `utils/_http.py`, `hf_raise_for_status`).
 */
export function refusal(hub: HubConnection, status: number, headers: Headers): HubError | undefined {
  const code = headers.get('x-error-code') ?? '';
  const { id, endpoint, revision } = hub;
  if (code === 'EntryNotFound') return undefined;
  if (code === 'GatedRepo') return new RefusedError(gated(hub, status));
  if (code === 'RevisionNotFound') {
    return new RevisionError(
      `${id} has no revision "${revision}" (${status}). See ${endpoint}/${id}/refs for its branches and tags`,
    );
  }
  if (code === 'RepoNotFound' || status === 401) return new RefusedError(notFound(hub, status));
  if (status === 403) return new RefusedError(forbidden(hub, headers));
  if (status === 404) return undefined;
  const said = headers.get('x-error-message');
  return new RefusedError(`${endpoint} refuses ${id}: ${status}${said ? `, "${said.slice(0, 300)}"` : ''}`);
}

function gated({ id, endpoint, token }: HubConnection, status: number): string {
  const remedy =
    token === undefined
      ? 'then set HF_TOKEN or pass a token of your account'
      : 'with the account of the token in use; access may still be pending';
  return `${id} is gated (${status}). Accept its conditions at ${endpoint}/${id}, ${remedy}`;
}

function notFound({ id, endpoint, token }: HubConnection, status: number): string {
  const remedy =
    token === undefined
      ? 'for a private one set HF_TOKEN or pass a token'
      : 'if it is private, the token in use is invalid or has no access to it';
  return `${id} was not found at ${endpoint} (${status}). Check the spelling; ${remedy}`;
}

function forbidden({ id, endpoint, token }: HubConnection, headers: Headers): string {
  const said = headers.get('x-error-message');
  const remedy =
    token === undefined ? 'Set HF_TOKEN or pass a token' : 'The token in use lacks permission to read it';
  return `${endpoint} forbids access to ${id} (403${said ? `, "${said.slice(0, 300)}"` : ''}). ${remedy}`;
}
