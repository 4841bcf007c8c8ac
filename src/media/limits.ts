import { expected, InputError } from '../errors.ts';
import { checkOptions } from '../options.ts';
import type { ImageLimits } from './types.ts';

/** The pixel count Pillow refuses too; 256 MiB encoded; and two hours, which are more tokens than models read. */
const DEFAULTS: ImageLimits = { maxPixels: 178_956_970, maxBytes: 2 ** 28, maxSeconds: 7200 };
const NAMES = Object.keys(DEFAULTS) as (keyof ImageLimits)[];

/** A caller's limits, with the defaults for those not given. @throws InputError naming a limit that is none */
export function limitsOf(given: Partial<ImageLimits> | undefined): ImageLimits {
  checkOptions(given, NAMES, 'limits');
  const limits: { -readonly [name in keyof ImageLimits]: number } = { ...DEFAULTS };
  for (const name of NAMES) {
    const value = given?.[name];
    if (value === undefined) continue;
    if (!(typeof value === 'number' && value > 0))
      throw new InputError(expected(`limits.${name}`, value, 'a number above 0'));
    limits[name] = value;
  }
  return limits;
}
