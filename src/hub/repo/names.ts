import { HubError, show } from '../../errors.ts';
import { percentDecoded } from '../../net/percent.ts';
import { spellingHint } from '../repo-spelling.ts';

/** As huggingface_hub: `name` or `organisation/name` of letters, digits, `-`, `_` and `.`. */
const REPO_ID = /^(?:\w(?:[\w.-]*\w)?\/)?\w(?:[\w.-]{0,94}\w)?$/;

export function isRepoId(text: string): boolean {
  return REPO_ID.test(text) && !text.includes('--') && !text.includes('..') && !text.endsWith('.git');
}

/**
 * @param platform which may allow fewer names than others
 * @throws HubError unless `name` is a relative path that stays inside its folder on every operating system, and that this one can hold
 */
export function checkFileName(
  name: string,
  what = 'file name',
  platform: NodeJS.Platform = process.platform,
): void {
  const parts = typeof name === 'string' ? name.split('/') : [''];
  const bad = parts.some((part) => part === '' || part === '.' || part === '..' || /^[a-z]:/i.test(part));
  if (bad || name.includes('\\') || hasControlCharacter(name) || name.length > 1024) {
    throw new HubError(
      `${what} ${show(name)} is not a path inside the repo; "..", absolute and empty parts are refused`,
    );
  }
  const unfit = platform === 'win32' ? parts.find(isUnfitForWindows) : undefined;
  if (unfit !== undefined) {
    throw new HubError(
      `${what} ${show(name)} cannot be on Windows, which reserves ${show(unfit)}. Use the repo under WSL, or ask its owner to rename it`,
    );
  }
}

/** Devices, whatever their ending; characters that mean something else, above all the colon of a second stream; ends that get lost. */
function isUnfitForWindows(part: string): boolean {
  return (
    /^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\.|$)/i.test(part) || /[<>:"|?*]|[. ]$/.test(part)
  );
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

const HUB_HOSTS = /^(?:https?:\/\/)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)\//i;

/**
 * The error for a name that is neither an existing folder nor a repo id: what it looks like, and what to pass instead.
 *
 * @param folder where a folder of that name would be
 * @param endpoint the hub in use, whose addresses are recognized, too
 */
export function unknownName(name: string, folder: string, endpoint: string): HubError {
  const text = show(name);
  const address = name.startsWith(`${endpoint}/`) ? name.slice(endpoint.length + 1) : undefined;
  const path =
    address ?? (HUB_HOSTS.test(name) ? name.replace(HUB_HOSTS, '') : /^hf:\/\/(.*)$/i.exec(name)?.[1]);
  if (path !== undefined) return hubAddress(text, path.replace(/^(models\/|api\/models\/)/, ''));
  if (/^file:/i.test(name)) {
    const local = URL.canParse(name)
      ? percentDecoded(new URL(name).pathname).replace(/^\/(?=[a-z]:)/i, '')
      : name.replace(/^file:\/*/i, '/');
    return new HubError(
      `${text} is a URL; a folder is named by its path, ${show(local)}. A repo id would do, too`,
    );
  }
  if (/^[a-z][a-z\d+.-]+:\/\//i.test(name)) {
    return new HubError(
      `${text} is an address; a model is named by a folder or by a repo id such as "Qwen/Qwen1.5-MoE-A2.7B". Another hub is ` +
        'set by HF_ENDPOINT',
    );
  }
  const hint = spellingHint(name);
  return new HubError(
    `${text} is neither an existing folder (looked at ${folder}) nor a repo id such as "Qwen/Qwen1.5-MoE-A2.7B"` +
      (hint && `. ${hint}`),
  );
}

/** `Qwen/X/tree/main/sub` and the like, as the address bar has it. */
function hubAddress(text: string, path: string): HubError {
  const [organisation, name, kind, revision] = path.replace(/[?#].*$/, '').split('/');
  const id = `${organisation}/${name}`;
  if (!organisation || !name || !isRepoId(id) || ['datasets', 'spaces'].includes(organisation)) {
    return new HubError(
      `${text} is an address, and not of a model; a model is named by a folder or a repo id such as "Qwen/Qwen1.5-MoE-A2.7B"`,
    );
  }
  const pinned =
    ['tree', 'blob', 'resolve', 'commit'].includes(kind ?? '') && revision && revision !== 'main';
  return new HubError(
    `${text} is an address; the repo id in it is ${show(id)}${pinned ? `, and the revision ${show(revision)}` : ''}. Pass that ` +
      'instead of the address; a folder would do, too',
  );
}

/** The error for a file where a folder of files is needed. */
export function notAFolder(name: string): HubError {
  if (/\.gguf$/i.test(name)) {
    return new HubError(
      `${name} is a file; GGUF files are for llama.cpp. A model is a folder with config.json and .safetensors files, or a repo ` +
        'id: pass the repo that the GGUF file was made from',
    );
  }
  const inside = /\.(safetensors|json)$/i.test(name) ? '. Pass the folder that it lies in' : '';
  return new HubError(
    `${name} is a file; a model is a folder with config.json and .safetensors files, or a repo id${inside}`,
  );
}
