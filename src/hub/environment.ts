import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { HUB_URL } from '@huggingface/hub';

/** The environment variables huggingface_hub (Python) reads, with its precedence. An empty value counts as unset. */
type Environment = Readonly<Record<string, string | undefined>>;

/** Folder that holds `models--org--name`: HF_HUB_CACHE, else `hub` in HF_HOME, XDG_CACHE_HOME/huggingface or ~/.cache/huggingface. */
export function defaultCacheDir(env: Environment = process.env): string {
  const explicit = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE;
  return explicit ? expand(explicit) : join(hubHome(env), 'hub');
}

function hubHome(env: Environment): string {
  if (env.HF_HOME) return expand(env.HF_HOME);
  return join(env.XDG_CACHE_HOME ? expand(env.XDG_CACHE_HOME) : join(homedir(), '.cache'), 'huggingface');
}

function expand(path: string): string {
  return resolve(path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path);
}

/** True when HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids the network. */
export function isOffline(env: Environment = process.env): boolean {
  return isTrue(env.HF_HUB_OFFLINE) || isTrue(env.TRANSFORMERS_OFFLINE);
}

/** True when HF_HUB_DISABLE_PROGRESS_BARS asks for silence. */
export function progressDisabled(env: Environment = process.env): boolean {
  return isTrue(env.HF_HUB_DISABLE_PROGRESS_BARS);
}

/** Base URL of the hub, without a slash at the end: HF_ENDPOINT or the public hub. */
export function hubEndpoint(env: Environment = process.env): string {
  return (env.HF_ENDPOINT || HUB_URL).replace(/\/+$/, '');
}

/** Access token: HF_TOKEN, else the file named by HF_TOKEN_PATH, else `token` in the hub's home; undefined without one. */
export async function defaultToken(env: Environment = process.env): Promise<string | undefined> {
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  const fromEnvironment = (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN)?.trim();
  if (fromEnvironment) return fromEnvironment;
  const path = env.HF_TOKEN_PATH ? expand(env.HF_TOKEN_PATH) : join(hubHome(env), 'token');
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.trim() || undefined;
}

/** Milliseconds without an answer or a byte after which a connection counts as dropped (`HF_HUB_*_TIMEOUT` are seconds). */
export function timeouts(env: Environment = process.env): { metadata: number; download: number } {
  return {
    metadata: seconds(env.HF_HUB_ETAG_TIMEOUT, 10) * 1000,
    download: seconds(env.HF_HUB_DOWNLOAD_TIMEOUT, 10) * 1000,
  };
}

function seconds(text: string | undefined, fallback: number): number {
  const value = Number(text || fallback);
  return Number.isFinite(value) && value > 0 ? value : fallback;
}

function isTrue(text: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(text?.trim() ?? '');
}
