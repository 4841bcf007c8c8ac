import { InputError } from '../errors.ts';
import type { Size } from '../media/types.ts';

export interface ResizeRule {
  /** Both sides become multiples of this: patch size × merge size. */
  readonly factor: number;
  /** Bounds on the pixels of the result (for a video: of all its frames together). */
  readonly minPixels: number;
  readonly maxPixels: number;
}

const MAX_ASPECT = 200;

/** Rounds to the nearest integer, and a half to the even neighbour, as Python's `round`. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * The size a picture is resized to: close to its own size and aspect, sides multiples of `factor`, area within the
 * bounds as far as one multiple of `factor` allows (HF `Qwen2VLImageProcessor`, `smart_resize`).
 *
 * @param name what to call the picture in messages
 * @throws InputError when one side is more than 200 times the other
 */
export function smartResize({ height, width }: Size, rule: ResizeRule, name = 'the picture'): Size {
  checkAspect(height, width, name);
  return fitArea({ height, width }, 1, 1, rule);
}

/**
 * `smartResize` for a video: the bounds hold for all frames together, and frames smaller than `factor` are scaled up
 * first (HF `Qwen3VLVideoProcessor`, `smart_resize`). A single frame counts as the `temporalPatch` it is repeated to;
 * transformers refuses it.
 *
 * @throws InputError when one side is more than 200 times the other
 */
export function smartResizeVideo(
  frames: number,
  size: Size,
  temporalPatch: number,
  rule: ResizeRule,
  name = 'the video',
): Size {
  const count = Math.max(frames, temporalPatch);
  let { height, width } = size;
  if (height < rule.factor || width < rule.factor) {
    const scale = Math.max(rule.factor / height, rule.factor / width);
    height = Math.trunc(height * scale);
    width = Math.trunc(width * scale);
  }
  checkAspect(height, width, name);
  const padded = roundHalfEven(count / temporalPatch) * temporalPatch;
  return fitArea({ height, width }, count, padded, rule);
}

function fitArea({ height, width }: Size, frames: number, paddedFrames: number, rule: ResizeRule): Size {
  const { factor, minPixels, maxPixels } = rule;
  const rounded = {
    height: roundHalfEven(height / factor) * factor,
    width: roundHalfEven(width / factor) * factor,
  };
  const area = paddedFrames * rounded.height * rounded.width;
  if (area > maxPixels) {
    const beta = Math.sqrt((frames * height * width) / maxPixels);
    const shrink = (side: number) => Math.max(factor, Math.floor(side / beta / factor) * factor);
    return { height: shrink(height), width: shrink(width) };
  }
  if (area < minPixels) {
    const beta = Math.sqrt(minPixels / (frames * height * width));
    const grow = (side: number) => Math.ceil((side * beta) / factor) * factor;
    return { height: grow(height), width: grow(width) };
  }
  return rounded;
}

function checkAspect(height: number, width: number, name: string): void {
  const aspect = Math.max(height, width) / Math.min(height, width);
  if (aspect > MAX_ASPECT) {
    throw new InputError(
      `${name} is ${width} x ${height} pixels: its longer side is ${aspect.toFixed(1)} times the shorter one, ` +
        `and ${MAX_ASPECT} is the most the model takes. Crop it or split it up`,
    );
  }
}
