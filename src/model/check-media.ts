/** What comes for a vision tower is checked before anything is computed: a wrong shape would give wrong answers, not errors. */
import { expected, InputError } from '../errors.ts';
import type { Grid } from '../media/types.ts';

/**
 * @param name of the input
 * @param side patches of the block that makes one token: height and width are multiples of it
 * @throws InputError
 */
export function checkGrids(grids: unknown, name: string, side: number): asserts grids is readonly Grid[] {
  if (!Array.isArray(grids))
    throw new InputError(expected(name, grids, 'a list of grids, as the processor returns it'));
  for (const [i, grid] of grids.entries()) {
    const isWhole = (value: unknown) => Number.isSafeInteger(value) && (value as number) > 0;
    const fits =
      Array.isArray(grid) &&
      grid.length === 3 &&
      grid.every(isWhole) &&
      grid[1] % side === 0 &&
      grid[2] % side === 0;
    if (!fits)
      throw new InputError(
        expected(
          `${name}[${i}]`,
          grid,
          `[time, height, width] in patches, whole numbers above 0, height and width multiples of ${side}`,
        ),
      );
  }
}

/**
 * @param pixels fp32 [patches, values]
 * @param values of a patch
 * @throws InputError
 */
export function checkPixels(pixels: unknown, name: string, values: number): void {
  const { data, dims } = (pixels ?? {}) as { data?: unknown; dims?: unknown };
  const isShaped = Array.isArray(dims) && dims.length === 2 && dims[1] === values;
  if (data instanceof Float32Array && isShaped && data.length === dims[0] * values) return;
  const given = `${data instanceof Float32Array ? data.length : typeof data} values for [${String(dims)}]`;
  throw new InputError(
    `${name} has ${given}; expected a Float32Array of [patches, ${values}], as the processor of this model returns it`,
  );
}
