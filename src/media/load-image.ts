import { abortIf, expected, InputError, show, unlessAborted } from '../errors.ts';
import { checkPixels, decodeImage, toRgb } from './decode-image.ts';
import { limitsOf } from './limits.ts';
import { Pacer } from './pacer.ts';
import { describeSource, readBytes } from './read-bytes.ts';
import type { ImageInput, ImageLimits, LoadOptions, RawPixels, RgbImage } from './types.ts';

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
  const limits = limitsOf(options.limits);
  const what = `preparing ${name}`;
  abortIf(options.signal, what);
  const pacer = new Pacer(what, options.signal);
  if (isRawPixels(input)) return fromRawPixels(input, limits, name, pacer);
  const source = `${name} (${describeSource(input)})`;
  const bytes = await readBytes(input, source, {
    limits,
    signal: options.signal,
    what: 'a picture is a path, a URL, bytes of an encoded file, or { data, width, height, channels }',
  });
  abortIf(options.signal, what);
  return unlessAborted(options.signal, what, decodeImage(bytes, limits, source, pacer));
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
