import { InputError } from '../errors.ts';
import { loadImage } from '../media/load-image.ts';
import { Pacer } from '../media/pacer.ts';
import { resizeBicubic } from '../media/resize.ts';
import type {
  Grid,
  ImageInput,
  LoadOptions,
  PixelValues,
  RgbImage,
  Size,
  VideoInput,
} from '../media/types.ts';
import { type PatchRule, patchGrid, patchLength, writePatches } from './patches.ts';
import type { ImageConfig, VideoConfig } from './processor-config.ts';
import { smartResize, smartResizeVideo } from './smart-resize.ts';
import { frameRate, frameTimes, patchTimes } from './video.ts';

export interface ProcessedImages {
  readonly pixelValues: PixelValues;
  readonly gridThw: readonly Grid[];
}

export interface ProcessedVideos extends ProcessedImages {
  /** Per video the seconds the prompt gives for each temporal patch; none of whole clips. */
  readonly patchTimes: readonly (readonly number[])[];
  /** Per video the seconds from one temporal patch to the next; of whole clips. */
  readonly secondsPerGrid?: readonly number[];
}

/** Values of the patches of a call: 8 GiB, which are more tokens than models read. */
const MOST_VALUES = 2 ** 31;

/**
 * Loads, resizes and cuts pictures into patches. Runs in slices of about 12 ms between which the event loop turns.
 *
 * Memory: the result is 24 bytes a pixel after resizing (4 bytes × 3 channels × 2 frames a patch), and the resized
 * pictures another 3 bytes a pixel until it is filled. While one picture is being resized, 3 bytes a pixel of the
 * source and at most 3 of the half-resized one come on top. A 4096 × 4096 picture that keeps its size (the most
 * Qwen3-VL allows) thus peaks at 450 MiB plus what its decoder needs.
 *
 * @param configs settings of single pictures, where they differ in their bounds
 * @throws InputError naming the picture
 * @throws AbortError
 */
export async function processImages(
  inputs: readonly ImageInput[],
  config: ImageConfig,
  options: LoadOptions = {},
  configs: readonly (ImageConfig | undefined)[] = [],
): Promise<ProcessedImages> {
  const pacer = new Pacer('preparing the images', options.signal);
  const room = new Room(config);
  const resized: RgbImage[][] = [];
  for (const [i, input] of inputs.entries()) {
    const name = `image ${i + 1}`;
    const image = await loadImage(input, options, name);
    const size = imageSize(image, configs[i] ?? config, name);
    room.take(1, size, name);
    resized.push([await resizeBicubic(image, size, pacer)]);
  }
  return toPixelValues(resized, config, pacer);
}

/**
 * As `processImages` for videos. All frames of a video must have one size; the memory is 12 bytes a pixel and frame
 * after resizing, and the bounds of the config keep all frames together, or each of a whole clip, below its `longest_edge` pixels.
 *
 * @throws InputError naming the video and frame
 * @throws AbortError
 */
export async function processVideos(
  inputs: readonly VideoInput[],
  config: VideoConfig,
  options: LoadOptions = {},
  configs: readonly (VideoConfig | undefined)[] = [],
): Promise<ProcessedVideos> {
  const pacer = new Pacer('preparing the videos', options.signal);
  const { temporalPatchSize, wholeClip } = config;
  const times = inputs.map((video, i) => frameTimes(video, `video ${i + 1}`));
  const rates = wholeClip ? inputs.map((video, i) => frameRate(video, `video ${i + 1}`)) : [];
  const room = new Room(config);
  const resized: RgbImage[][] = [];
  for (const [i, { frames }] of inputs.entries()) {
    const name = `video ${i + 1}`;
    resized.push(await resizeFrames(frames, configs[i] ?? config, { ...options, pacer, room }, name));
  }
  const processed = await toPixelValues(resized, config, pacer);
  if (!wholeClip)
    return { ...processed, patchTimes: times.map((each) => patchTimes(each, temporalPatchSize)) };
  return { ...processed, patchTimes: [], secondsPerGrid: rates.map((fps) => temporalPatchSize / fps) };
}

async function resizeFrames(
  frames: readonly ImageInput[],
  config: VideoConfig,
  { pacer, room, ...options }: LoadOptions & { readonly pacer: Pacer; readonly room: Room },
  video: string,
): Promise<RgbImage[]> {
  const resized: RgbImage[] = [];
  let first: Size | undefined;
  let target: Size | undefined;
  for (const [i, input] of frames.entries()) {
    const name = `${video}, frame ${i + 1}`;
    const image = await loadImage(input, options, name);
    first ??= { width: image.width, height: image.height };
    if (image.width !== first.width || image.height !== first.height) {
      throw new InputError(
        `${name} is ${image.width} x ${image.height} pixels, but frame 1 is ${first.width} x ${first.height}: ` +
          'all frames of a video must have one size',
      );
    }
    if (target === undefined) {
      target = videoSize(frames.length, image, config, video);
      room.take(frames.length, target, video);
    }
    resized.push(await resizeBicubic(image, target, pacer));
  }
  return resized;
}

/** Counts what pictures will take once they are patches, before they are resized. */
class Room {
  readonly #rule: PatchRule;
  #values = 0;

  constructor(rule: PatchRule) {
    this.#rule = rule;
  }

  /** @throws InputError where it is too much */
  take(frames: number, { width, height }: Size, name: string): void {
    const [t, h, w] = patchGrid(frames, height, width, this.#rule);
    this.#values += t * h * w * patchLength(this.#rule);
    if (this.#values <= MOST_VALUES) return;
    throw new InputError(
      `${name} comes to ${t} x ${h} x ${w} patches, and all that are prepared at once to ${this.#values} values; ` +
        `at most ${MOST_VALUES} are taken. Lower maxPixels, sample fewer frames, or give fewer at once`,
    );
  }
}

async function toPixelValues(
  pictures: readonly (readonly RgbImage[])[],
  rule: PatchRule,
  pacer: Pacer,
): Promise<ProcessedImages> {
  const gridThw = pictures.map((frames) => {
    const { height, width } = frames[0] as RgbImage;
    return patchGrid(frames.length, height, width, rule);
  });
  const length = patchLength(rule);
  const patches = gridThw.reduce((sum, [t, h, w]) => sum + t * h * w, 0);
  const data = new Float32Array(patches * length);
  let offset = 0;
  for (const [i, frames] of pictures.entries()) {
    await writePatches(data, offset, frames, rule, pacer);
    const [t, h, w] = gridThw[i] as Grid;
    offset += t * h * w * length;
  }
  return { pixelValues: { data, dims: [patches, length] }, gridThw };
}

function imageSize(image: RgbImage, config: ImageConfig, name: string): Size {
  const factor = config.patchSize * config.mergeSize;
  if (!config.bounds) return unchanged(image, factor, name);
  return smartResize(image, { factor, ...config.bounds }, name);
}

function videoSize(frames: number, image: RgbImage, config: VideoConfig, name: string): Size {
  const factor = config.patchSize * config.mergeSize;
  if (!config.bounds) return unchanged(image, factor, name);
  const { minPixels, maxPixels } = config.bounds;
  if (config.wholeClip) return smartResize(image, { factor, minPixels, maxPixels }, name);
  if (config.maxFrameTokens === undefined) {
    return smartResizeVideo(frames, image, config.temporalPatchSize, { factor, minPixels, maxPixels }, name);
  }
  const share = Math.min(config.maxFrameTokens * factor * factor, Math.floor(maxPixels / frames));
  const perFrame = Math.max(share, Math.trunc(minPixels * 1.05));
  const rule = { factor, minPixels, maxPixels: perFrame * frames };
  return smartResizeVideo(frames, image, config.temporalPatchSize, rule, name);
}

function unchanged({ width, height }: RgbImage, factor: number, name: string): Size {
  if (width % factor === 0 && height % factor === 0) return { width, height };
  throw new InputError(
    `${name} is ${width} x ${height} pixels. The processor's config switches resizing off, so both sides must be ` +
      `multiples of ${factor}`,
  );
}
