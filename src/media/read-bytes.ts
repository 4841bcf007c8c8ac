import { readFile, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { InputError, show } from '../errors.ts';
import { whyUnreadable } from '../files.ts';
import { downloadImage } from './download-image.ts';
import type { ImageLimits } from './types.ts';

const URL_SCHEME = /^(https?|file|data):/i;

type ByteLimits = Pick<ImageLimits, 'maxBytes'>;

/** How to read a picture or a sound. */
export interface ReadOptions {
  readonly limits: ByteLimits;
  readonly signal: AbortSignal | undefined;
  /** What such an input may be, for messages. */
  readonly what: string;
}

/** A short name of the source for messages; data URLs and bytes are not spelt out. */
export function describeSource(input: unknown): string {
  if (typeof input === 'string' && /^data:/i.test(input)) return `a data URL of ${input.length} characters`;
  if (typeof input === 'string') return input.length > 200 ? `${input.slice(0, 197)}...` : input;
  if (input instanceof URL) return describeSource(input.href);
  if (input instanceof Uint8Array) return `${input.length} bytes in memory`;
  if (typeof input === 'object' && input !== null)
    return `an object with ${Object.keys(input).slice(0, 9).join(', ') || 'no fields'}`;
  return show(input);
}

/**
 * The bytes of an encoded file: of a path, a URL, or in memory.
 * @param source the input in messages
 * @throws InputError, AbortError
 */
export async function readBytes(
  input: unknown,
  source: string,
  { limits, signal, what }: ReadOptions,
): Promise<Uint8Array> {
  if (input instanceof Uint8Array) return checkBytes(input, limits, source);
  if (typeof input !== 'string' && !(input instanceof URL)) throw new InputError(`${source}: ${what}`);
  const text = String(input);
  const scheme = URL_SCHEME.exec(text)?.[1]?.toLowerCase();
  if (scheme === 'data') return checkBytes(decodeDataUrl(text, source), limits, source);
  if (scheme === 'http' || scheme === 'https')
    return downloadImage(text, source, (bytes) => checkByteCount(bytes, limits, source), signal);
  if (input instanceof URL && scheme !== 'file') {
    throw new InputError(`${source}: cannot load ${input.protocol} URLs; use http, https, file or data`);
  }
  return readFromDisk(scheme === 'file' ? toPath(text, source) : text, source, limits);
}

function toPath(url: string, source: string): string {
  try {
    return fileURLToPath(url);
  } catch (error) {
    throw new InputError(`${source} is not a valid file URL: ${(error as Error).message}`, { cause: error });
  }
}

async function readFromDisk(path: string, source: string, limits: ByteLimits): Promise<Uint8Array> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new InputError(`${source} is not a file`);
    checkByteCount(info.size, limits, source);
    return await readFile(path);
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(`${source}: ${whyUnreadable(error)}`, { cause: error });
  }
}

function decodeDataUrl(url: string, source: string): Uint8Array {
  const comma = url.indexOf(',');
  if (comma < 0) throw new InputError(`${source} has no comma between its type and its data`);
  const body = url.slice(comma + 1);
  if (/;base64$/i.test(url.slice(0, comma))) return Buffer.from(decodePercent(body, source), 'base64');
  return Buffer.from(decodePercent(body, source), 'latin1');
}

function decodePercent(text: string, source: string): string {
  // Percent-coded bytes stand for bytes, not for UTF-8, so decodeURIComponent would not do.
  if (/%(?![0-9a-f]{2})/i.test(text)) throw new InputError(`${source} has a % that no two hex digits follow`);
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

function checkBytes(bytes: Uint8Array, limits: ByteLimits, source: string): Uint8Array {
  checkByteCount(bytes.length, limits, source);
  return bytes;
}

function checkByteCount(count: number, limits: ByteLimits, source: string): void {
  if (count > limits.maxBytes) {
    throw new InputError(
      `${source} has ${count} bytes or more, over the limit of ${limits.maxBytes}. ` +
        'Take a smaller one, or raise limits.maxBytes if you trust the source',
    );
  }
}
