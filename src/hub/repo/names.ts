import { HubError, show } from '../../errors.ts';

/** As huggingface_hub: `name` or `organisation/name` of letters, digits, `-`, `_` and `.`. */
const REPO_ID = /^(?:\w(?:[\w.-]*\w)?\/)?\w(?:[\w.-]{0,94}\w)?$/;

export function isRepoId(text: string): boolean {
  return REPO_ID.test(text) && !text.includes('--') && !text.includes('..') && !text.endsWith('.git');
}

/** @throws HubError unless `name` is a relative path that stays inside its folder on every operating system. */
export function checkFileName(name: string, what = 'file name'): void {
  const parts = name.split('/');
  const bad = parts.some((part) => part === '' || part === '.' || part === '..' || /^[a-z]:/i.test(part));
  if (bad || name.includes('\\') || hasControlCharacter(name) || name.length > 1024) {
    throw new HubError(
      `${what} ${show(name)} is not a path inside the repo; "..", absolute and empty parts are refused`,
    );
  }
}

/** @throws HubError unless `revision` can be a branch, tag or commit (and a path below `refs/`). */
export function checkRevision(revision: string): void {
  checkFileName(revision, 'revision');
}

export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

function hasControlCharacter(text: string): boolean {
  return [...text].some((character) => character < ' ' || character === '\u007f');
}
