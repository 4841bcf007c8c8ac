import type { HubConnection } from './connection.ts';

/** What must be known of a file before it is fetched. */
export interface RemoteFile {
  /** Path inside the repo. */
  readonly path: string;
  /** Name of the blob: sha256 for LFS and Xet files, the git object id for others. */
  readonly etag: string;
  readonly size: number;
}

/** Address of a file's bytes at a commit or other revision. */
export function fileUrl(hub: HubConnection, revision: string, path: string): string {
  return `${hub.endpoint}/${hub.id}/resolve/${encodeURIComponent(revision)}/${encodePath(path)}`;
}

/** A path as a part of an address. */
export function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/');
}
