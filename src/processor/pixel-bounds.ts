import { expected, InputError } from '../errors.ts';
import { checkOptions } from '../options.ts';
import { type ImageConfig, MOST_MIN_PIXELS, MOST_PIXELS } from './processor-config.ts';

/** Bounds on the pixels of a picture after resizing, or of all frames of a video together. They decide how many tokens it costs. */
export interface PixelBounds {
  /** Default: what the checkpoint's settings say, but no more than `maxPixels`. */
  readonly minPixels?: number | undefined;
  /** Default: what the checkpoint's settings say, but no less than `minPixels`. */
  readonly maxPixels?: number | undefined;
  /** The same two under transformers' names; `minPixels` and `maxPixels` go before. */
  readonly size?: { readonly shortestEdge?: number; readonly longestEdge?: number } | undefined;
}

/** Names of the bounds, as options. */
export const BOUNDS = ['minPixels', 'maxPixels', 'size'] as const satisfies readonly (keyof PixelBounds)[];

/**
 * The settings with a caller's bounds in place of their own.
 * @param where names the caller's bounds in messages
 * @throws InputError for what is no bound, bounds that exclude each other, and bounds where nothing is resized
 */
export function withBounds<C extends ImageConfig>(config: C, given: PixelBounds, where: string): C {
  const { size = {} } = given;
  checkOptions(size, ['shortestEdge', 'longestEdge'], `${where}: size`);
  const min =
    bound(given.minPixels, 'minPixels', MOST_MIN_PIXELS, where) ??
    bound(size.shortestEdge, 'size.shortestEdge', MOST_MIN_PIXELS, where);
  const max =
    bound(given.maxPixels, 'maxPixels', MOST_PIXELS, where) ??
    bound(size.longestEdge, 'size.longestEdge', MOST_PIXELS, where);
  if (min === undefined && max === undefined) return config;
  const name =
    given.maxPixels === undefined && given.minPixels === undefined
      ? 'size'
      : max === undefined
        ? 'minPixels'
        : 'maxPixels';
  if (!config.bounds)
    throw new InputError(
      `${where}: ${name} is given, but the processor's config switches resizing off (do_resize: false)`,
    );
  if (min !== undefined && max !== undefined && min > max)
    throw new InputError(expected(`${where}: minPixels`, min, `at most maxPixels (${max})`));
  const { minPixels, maxPixels } = config.bounds;
  const bounds = {
    minPixels: min ?? Math.min(minPixels, max as number),
    maxPixels: max ?? Math.max(maxPixels, min as number),
  };
  return { ...config, bounds };
}

function bound(value: unknown, name: string, most: number, where: string): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (Number.isInteger(value) && (value as number) > 0 && (value as number) <= most) return value as number;
  throw new InputError(expected(`${where}: ${name}`, value, `a whole number of pixels, from 1 to ${most}`));
}
