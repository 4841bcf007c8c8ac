import { readFile, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expected, InputError, show } from '../errors.ts';
import { checkPixels, decodeImage, toRgb } from './decode-image.ts';
import { downloadImage } from './download-image.ts';
import { Pacer, throwIfAborted } from './pacer.ts';
import {
  DEFAULT_LIMITS,
  type ImageInput,
  type ImageLimits,
  type LoadOptions,
  type RawPixels,
  type RgbImage,
} from './types.ts';

const URL_SCHEME = /^(https?|file|data):/i;

/**
 * Loads a picture as 8-bit RGB, upright as its EXIF orientation says. Alpha is dropped, not blended; gray and palette
 * pictures are expanded; of 16 bits a channel the upper 8 are kept; colour profiles are ignored; of an animation the
 * first frame is taken. Decoding runs on a thread of its own.
 *
 * @param name what to call the picture in messages, such as `image 2`
 * @throws InputError naming the source: not found, not a picture, damaged, over the limits, wrong number of channels
 * @throws AbortError
 */
export async function loadImage(
  input: ImageInput,
  options: LoadOptions = {},
  name = 'image',
): Promise<RgbImage> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  throwIfAborted(options.signal);
  const pacer = new Pacer(options.signal);
  if (isRawPixels(input)) return fromRawPixels(input, limits, name, pacer);
  const source = `${name} (${describe(input)})`;
  const bytes = await readInput(input, source, limits, options.signal);
  const image = await decodeImage(bytes, limits, source, pacer);
  throwIfAborted(options.signal);
  return image;
}

/** A short name of the source for messages; data URLs and bytes are not spelt out. */
function describe(input: unknown): string {
  if (typeof input === 'string' && /^data:/i.test(input)) return `a data URL of ${input.length} characters`;
  if (typeof input === 'string') return input.length > 200 ? `${input.slice(0, 197)}...` : input;
  if (input instanceof URL) return describe(input.href);
  if (input instanceof Uint8Array) return `${input.length} bytes in memory`;
  if (typeof input === 'object' && input !== null)
    return `an object with ${Object.keys(input).slice(0, 9).join(', ')}`;
  return show(input);
}

function isRawPixels(input: unknown): input is RawPixels {
  return typeof input === 'object' && input !== null && 'channels' in input && 'data' in input;
}

async function fromRawPixels(
  input: RawPixels,
  limits: ImageLimits,
  name: string,
  pacer: Pacer,
): Promise<RgbImage> {
  const { data, width, height, channels } = input;
  const fail = (problem: string) => new InputError(`${name}: ${problem}`);
  for (const [side, value] of Object.entries({ width, height })) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw fail(expected(side, value, 'a whole number above 0'));
  }
  if (channels !== 1 && channels !== 3 && channels !== 4) {
    throw fail(`raw pixels have ${show(channels)} channels; expected 1 (gray), 3 (RGB) or 4 (RGBA)`);
  }
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
    throw fail('raw pixels are no bytes; expected a Uint8Array or Uint8ClampedArray, 8 bits a channel');
  }
  checkPixels(width, height, limits, name);
  if (data.length !== width * height * channels) {
    throw fail(
      `raw pixels hold ${data.length} bytes; expected ${width} x ${height} x ${channels} = ${width * height * channels}`,
    );
  }
  return { data: await toRgb(data, channels, pacer), width, height };
}

async function readInput(
  input: Exclude<ImageInput, RawPixels>,
  source: string,
  limits: ImageLimits,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  if (input instanceof Uint8Array) return checkBytes(input, limits, source);
  if (typeof input !== 'string' && !(input instanceof URL)) {
    throw new InputError(
      `${source}: a picture is a path, a URL, bytes of an encoded file, or { data, width, height, channels }`,
    );
  }
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

async function readFromDisk(path: string, source: string, limits: ImageLimits): Promise<Uint8Array> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new InputError(`${source} is not a file`);
    checkByteCount(info.size, limits, source);
    return await readFile(path);
  } catch (error) {
    if (error instanceof InputError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    throw new InputError(`${source}: ${code === 'ENOENT' ? 'there is no such file' : message}`, {
      cause: error,
    });
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

function checkBytes(bytes: Uint8Array, limits: ImageLimits, source: string): Uint8Array {
  checkByteCount(bytes.length, limits, source);
  return bytes;
}

function checkByteCount(count: number, limits: ImageLimits, source: string): void {
  if (count > limits.maxBytes) {
    throw new InputError(
      `${source} has ${count} bytes or more, over the limit of ${limits.maxBytes}. ` +
        'Scale it down, or raise limits.maxBytes if you trust the source',
    );
  }
}
