import { InputError, SwitchyardError } from '../errors.ts';
import type { Pacer } from './pacer.ts';
import type { ImageLimits, RgbImage } from './types.ts';

/** Damage is an error even where a decoder could go on, sizes are checked here, and colour profiles are ignored. */
const OPTIONS = { failOn: 'error', limitInputPixels: false, ignoreIcc: true, pages: 1 } as const;
/** Pixels converted between two looks at the clock: a fraction of a millisecond. */
const PIXELS_PER_TURN = 2 ** 16;

/** Loaded with the first picture: a text model should not wait for it. */
const loadSharp = async () => (await import('sharp')).default;

/**
 * Decodes a picture to 8-bit RGB with sharp, off the main thread.
 *
 * @param source what to call the picture in messages
 * @throws InputError when the bytes are damaged, of an unknown format, or over the pixel limit
 */
export async function decodeImage(
  bytes: Uint8Array,
  limits: ImageLimits,
  source: string,
  pacer: Pacer,
): Promise<RgbImage> {
  if (bytes.length === 0) throw new InputError(`${source} is empty`);
  if (!hasPixels(bytes))
    throw new InputError(
      `${source} is no picture of a format that is read (JPEG, PNG, WebP, GIF, AVIF, TIFF). Drawings, such as SVG, are to be made one first`,
    );
  const sharp = await loadSharp();
  try {
    const { width, height, space } = await sharp(bytes, OPTIONS).metadata();
    checkPixels(width, height, limits, source);
    return await decodePixels(bytes, space === 'cmyk', pacer);
  } catch (error) {
    if (error instanceof SwitchyardError) throw error;
    const reason = (error as Error).message.split('\n')[0];
    throw new InputError(
      `${source} cannot be decoded: ${reason}. The file is damaged or no picture of a known format (JPEG, PNG, WebP, ` +
        'GIF, AVIF, TIFF)',
      { cause: error },
    );
  }
}

/** How files of pixels begin, and where. */
const BEGINNINGS: readonly (readonly [at: number, text: string])[] = [
  [0, '\xff\xd8\xff'],
  [0, '\x89PNG'],
  [0, 'GIF8'],
  [8, 'WEBP'],
  [4, 'ftyp'],
  [0, 'II*\0'],
  [0, 'MM\0*'],
  [0, 'II+\0'],
  [0, 'MM\0+'],
];

/** Whether a file holds pixels: a drawing of a kilobyte may take a thread for ever, which nothing ends. */
function hasPixels(bytes: Uint8Array): boolean {
  const beginning = Buffer.from(bytes.subarray(0, 16)).toString('latin1');
  return BEGINNINGS.some(([at, text]) => beginning.startsWith(text, at));
}

async function decodePixels(bytes: Uint8Array, isCmyk: boolean, pacer: Pacer): Promise<RgbImage> {
  const sharp = await loadSharp();
  const space = isCmyk ? 'cmyk' : 'srgb';
  const upright = sharp(bytes, OPTIONS).autoOrient();
  const { data, info } = await (isCmyk ? upright.pipelineColourspace('cmyk') : upright)
    .toColourspace(space)
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const rgb = isCmyk ? await cmykToRgb(data, pacer) : await toRgb(data, channels, pacer);
  return { data: rgb, width, height };
}

type Bytes = Uint8Array | Uint8ClampedArray;

/** Keeps the first three channels, or repeats the first where there are fewer than three. */
export async function toRgb(data: Bytes, channels: number, pacer: Pacer): Promise<Uint8Array> {
  if (channels === 3) return new Uint8Array(data.buffer, data.byteOffset, data.length);
  const [green, blue] = channels > 3 ? [1, 2] : [0, 0];
  return convert(data, channels, pacer, (from, to, end, rgb) => {
    for (; from < end; from += channels, to += 3) {
      rgb[to] = data[from] as number;
      rgb[to + 1] = data[from + green] as number;
      rgb[to + 2] = data[from + blue] as number;
    }
  });
}

/** Pillow's plain conversion: what the black ink leaves, less the share of the colour. */
async function cmykToRgb(data: Bytes, pacer: Pacer): Promise<Uint8Array> {
  return convert(data, 4, pacer, (from, to, end, rgb) => {
    for (; from < end; from += 4, to += 3) {
      const white = 255 - (data[from + 3] as number);
      rgb[to] = white - scaleByte(data[from] as number, white);
      rgb[to + 1] = white - scaleByte(data[from + 1] as number, white);
      rgb[to + 2] = white - scaleByte(data[from + 2] as number, white);
    }
  });
}

/** Converts stretches of pixels: `step` reads `data` from byte `from` to before `end` and writes `rgb` from `to` on. */
async function convert(
  data: Bytes,
  channels: number,
  pacer: Pacer,
  step: (from: number, to: number, end: number, rgb: Uint8ClampedArray) => void,
): Promise<Uint8Array> {
  const rgb = new Uint8ClampedArray((data.length / channels) * 3);
  const stretch = PIXELS_PER_TURN * channels;
  for (let from = 0; from < data.length; from += stretch) {
    step(from, (from / channels) * 3, Math.min(data.length, from + stretch), rgb);
    await pacer.turn();
  }
  return new Uint8Array(rgb.buffer);
}

/** round(a · b / 255) in integers. */
function scaleByte(a: number, b: number): number {
  const product = a * b + 128;
  return (product + (product >> 8)) >> 8;
}

/** @throws InputError when the picture is larger than the limit */
export function checkPixels(width: number, height: number, limits: ImageLimits, source: string): void {
  if (width * height > limits.maxPixels) {
    throw new InputError(
      `${source} has ${width} x ${height} = ${width * height} pixels, more than the limit of ${limits.maxPixels}. ` +
        'Scale it down, or raise limits.maxPixels if you trust the source',
    );
  }
}
