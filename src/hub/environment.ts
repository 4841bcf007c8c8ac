import { readFile } from 'node:fs/promises';
import { homedir, userInfo } from 'node:os';
import { isAbsolute, join, resolve, sep } from 'node:path';
import { HubError } from '../errors.ts';

/** Where models are, unless the environment says otherwise. */
const HUB_URL = 'https://huggingface.co';

/** The environment variables huggingface_hub (Python) reads, with its precedence. An empty value counts as unset. */
type Environment = Readonly<Record<string, string | undefined>>;

/** Folder that holds `models--org--name`: HF_HUB_CACHE, else `hub` in HF_HOME, XDG_CACHE_HOME/huggingface or ~/.cache/huggingface. */
export function defaultCacheDir(env: Environment = process.env): string {
  const explicit = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE;
  return explicit ? expand(explicit) : join(hubHome(env), 'hub');
}

function hubHome(env: Environment): string {
  if (env.HF_HOME) return expand(env.HF_HOME);
  return join(env.XDG_CACHE_HOME ? expand(env.XDG_CACHE_HOME) : join(homeFolder(), '.cache'), 'huggingface');
}

/** An absolute path; `~` is the home folder. */
export function expand(path: string): string {
  return resolve(
    path === '~' || path.startsWith('~/') || path.startsWith(`~${sep}`)
      ? join(homeFolder(), path.slice(1))
      : path,
  );
}

/** The home folder, also where HOME is set to nothing, as some containers and services do. */
function homeFolder(): string {
  const home = homedir() || userInfo().homedir;
  if (isAbsolute(home)) return home;
  const variable = process.platform === 'win32' ? 'USERPROFILE' : 'HOME';
  throw new HubError(
    `this user has no home folder (${variable} is empty). Set ${variable}, or HF_HOME to a folder for the cache`,
  );
}

/** True when HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids the network. */
export function isOffline(env: Environment = process.env): boolean {
  return isTrue(env.HF_HUB_OFFLINE) || isTrue(env.TRANSFORMERS_OFFLINE);
}

/** True when HF_HUB_DISABLE_SYMLINKS wants a cache without symbolic links. */
export function symlinksDisabled(env: Environment = process.env): boolean {
  return isTrue(env.HF_HUB_DISABLE_SYMLINKS);
}

/** True when HF_HUB_DISABLE_PROGRESS_BARS asks for silence. */
export function progressDisabled(env: Environment = process.env): boolean {
  return isTrue(env.HF_HUB_DISABLE_PROGRESS_BARS);
}

/** Base URL of the hub, without a slash at the end: HF_ENDPOINT or the public hub. */
export function hubEndpoint(env: Environment = process.env): string {
  return (env.HF_ENDPOINT?.trim() || HUB_URL).replace(/\/+$/, '');
}

/**
 * Access token: HF_TOKEN, else the file named by HF_TOKEN_PATH, else `token` in the hub's home; undefined without one.
 *
 * @throws HubError naming the source of a token that no request could carry
 */
export async function defaultToken(env: Environment = process.env): Promise<string | undefined> {
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  for (const name of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN']) {
    const value = env[name];
    if (value?.trim()) return checkToken(value, `the token in ${name}`);
  }
  const path = env.HF_TOKEN_PATH ? expand(env.HF_TOKEN_PATH) : join(hubHome(env), 'token');
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.trim() ? checkToken(text, `the token in ${path}`) : undefined;
}

/**
 * A token without the white space around it. It goes into a header, which cannot hold everything; quotes come from files that
 * a shell was to read.
 *
 * @param what names its source in the error, which does not show it
 */
export function checkToken(text: string, what: string): string {
  const token = text.replace(/^[\s\ufeff]+|[\s\ufeff]+$/g, '');
  const bad = /[^!-~]|["']/.exec(token)?.[0];
  if (bad === undefined) return token;
  const name =
    BAD_CHARACTERS[bad] ?? (bad < ' ' ? 'a control character' : `the character ${JSON.stringify(bad)}`);
  throw new HubError(
    `${what} contains ${name}, which no token has; one reads "hf_" and then letters and digits. Copy it again`,
  );
}

const BAD_CHARACTERS: Readonly<Record<string, string>> = {
  ' ': 'a space',
  '\t': 'a tab',
  '\n': 'a line break',
  '\r': 'a line break',
  '"': 'a quotation mark',
  "'": 'a quotation mark',
};

/** Milliseconds without an answer or a byte after which a connection counts as dropped (`HF_HUB_*_TIMEOUT` are seconds). */
export function timeouts(env: Environment = process.env): { metadata: number; download: number } {
  return {
    metadata: seconds(env.HF_HUB_ETAG_TIMEOUT, 10) * 1000,
    download: seconds(env.HF_HUB_DOWNLOAD_TIMEOUT, 10) * 1000,
  };
}

/** Timers know no longer time. */
const MOST_SECONDS = 2_147_483;

function seconds(text: string | undefined, fallback: number): number {
  const value = Number(text || fallback);
  return value > 0 ? Math.min(value, MOST_SECONDS) : fallback;
}

function isTrue(text: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(text?.trim() ?? '');
}
