/** What comes for a vision tower is checked before anything is computed: a wrong shape would give wrong answers, not errors. */
import { expected, InputError, show } from '../errors.ts';
import { checkRows, type Prompts } from '../generation/prompt.ts';
import type { Grid } from '../media/types.ts';
import { type MediaPart, TOKEN_TYPES } from '../models/architecture.ts';

/**
 * The kind of each token of each prompt, padding left out: as the caller says, or by the placeholders.
 * @param given `mmTokenTypeIds`
 * @throws InputError for other shapes than the prompts', and for a kind whose placeholder does not stand there
 */
export function checkTokenTypes(given: unknown, prompts: Prompts, media: MediaPart): readonly number[][] {
  const byIds = prompts.rows.map(({ ids }) => media.tokenTypes(ids as readonly number[]));
  if (given === undefined || given === null) return byIds;
  const types = checkRows(given, 'mmTokenTypeIds', TOKEN_TYPES.audio, KINDS);
  if (types.length !== prompts.given.length)
    throw new InputError(
      `mmTokenTypeIds has ${types.length} rows, inputIds has ${prompts.given.length}. They must have one shape`,
    );
  return types.map((row, r) => {
    const { length } = prompts.given[r] as readonly number[];
    if (row.length !== length)
      throw new InputError(
        `mmTokenTypeIds: row ${r} has ${row.length} entries, its prompt has ${length}. Put a 0 for each token that follows a prompt of the ` +
          'processor, or leave mmTokenTypeIds out',
      );
    const kinds = byIds[r] as readonly number[];
    const padding = length - kinds.length;
    const own = row.slice(padding);
    const stray = own.findIndex((type, i) => type !== TOKEN_TYPES.text && type !== kinds[i]);
    if (stray !== -1)
      throw new InputError(
        `${expected(`mmTokenTypeIds: row ${r}, position ${padding + stray}`, own[stray], kinds[stray] === TOKEN_TYPES.text ? '0' : `0 or ${kinds[stray]}`)}: ` +
          `token ${prompts.given[r]?.[padding + stray]} there is no placeholder of that kind`,
      );
    return own;
  });
}

const KINDS = '0 (text), 1 (image), 2 (video) or 3 (sound)';

/** What to do about placeholders of a kind for which nothing was given: they may be words. */
export function remedyFor(kind: string, placeholders: number, tokens: number): string {
  return tokens === 0 && placeholders > 0
    ? `let the processor prepare prompts with ${kind}s; of a text that has none, leave the placeholder out, or have a 0 for it in mmTokenTypeIds`
    : `let the processor expand the placeholders of the same ${kind}s, and of tokens that a model has said, have a 0 for theirs in mmTokenTypeIds`;
}

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
  const isShaped = isSizes(dims, 2) && dims[1] === values;
  if (data instanceof Float32Array && isShaped && data.length === dims[0] * values) return;
  const given = `${countOf(data)} values for ${show(dims)}`;
  throw new InputError(
    `${name} has ${given}; expected a Float32Array of [patches, ${values}], as the processor of this model returns it`,
  );
}

/**
 * Frames of each sound.
 * @param features fp32 [sounds, bands, frames]
 * @param mask [sounds, frames]; 1 for the frames of a sound, which come first, and 0 for what fills up
 * @param bands of the model
 * @throws InputError
 */
export function checkSounds(features: unknown, mask: unknown, bands: number): number[] {
  const { data, dims } = (features ?? {}) as { data?: unknown; dims?: unknown };
  const rows = checkRows(mask, 'featureAttentionMask', 1, '0 or 1');
  const isShaped = isSizes(dims, 3) && dims[0] === rows.length && dims[1] === bands;
  if (!(data instanceof Float32Array && isShaped && data.length === dims[0] * dims[1] * dims[2]))
    throw new InputError(
      `inputFeatures has ${countOf(data)} values for ${show(dims)}, and featureAttentionMask ${rows.length} rows; expected a Float32Array of ` +
        `[sounds, ${bands}, frames] and a row for each sound, as the processor returns them`,
    );
  const width = dims[2];
  return rows.map((row, r) => {
    const end = row.indexOf(0);
    const frames = end === -1 ? row.length : end;
    if (row.length === width && frames > 0 && !row.includes(1, frames)) return frames;
    throw new InputError(
      `featureAttentionMask: row ${r} has ${row.length} entries, of which ${frames} are 1 before the first 0; expected ${width}, as inputFeatures ` +
        'has frames: 1 for each of the sound, then 0 for what fills up',
    );
  });
}

function isSizes(dims: unknown, count: number): dims is readonly [number, number, number] {
  return Array.isArray(dims) && dims.length === count && dims.every(Number.isSafeInteger);
}

function countOf(data: unknown): string {
  return data instanceof Float32Array ? String(data.length) : typeof data;
}

/** @param seconds `videoSecondPerGrid` @param videos how many there are @throws InputError */
export function checkSeconds(seconds: unknown, videos: number): void {
  const isStep = (value: unknown) => typeof value === 'number' && Number.isFinite(value) && value > 0;
  if (Array.isArray(seconds) && seconds.length === videos && seconds.every(isStep)) return;
  throw new InputError(
    expected('videoSecondPerGrid', seconds, `a number above 0 for each video (${videos})`),
  );
}
