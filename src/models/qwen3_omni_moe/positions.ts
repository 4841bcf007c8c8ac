import { InputError } from '../../errors.ts';
import type { Grid } from '../../media/types.ts';
import { type MediaGrids, TOKEN_TYPES } from '../architecture.ts';

/** How positions are counted. */
export interface PositionRule {
  /** Patches a side of the block that makes one token. */
  readonly merge: number;
  /** Positions on the time axis that a second of a video takes. */
  readonly perSecond: number;
}

/**
 * Rotary positions of one prompt: text and sound count up on all axes; a picture keeps its start on the time axis and spans its grid
 * on the other two; a video does too, its pairs of frames apart by the time between them. What follows starts after the largest
 * position (HF `Qwen3OmniMoeThinkerForConditionalGeneration.get_rope_index`, without sound inside videos).
 * @param types the kind of each token
 * @returns of each axis int32 [tokens], and position minus place for the tokens after them
 * @throws InputError where types and grids do not fit together, or positions would be fractions
 */
export function omniPositions(
  types: readonly number[],
  { images, videos, secondsPerGrid = [] }: MediaGrids,
  rule: PositionRule,
): { positions: Int32Array[]; delta: number } {
  const positions = Array.from({ length: 3 }, () => new Int32Array(types.length));
  const { image, video } = TOKEN_TYPES;
  const left = {
    [image]: images.map((grid) => ({ grid, step: 0 })),
    [video]: videos.map((grid, i) => ({ grid, step: stepOf(grid, secondsPerGrid[i], i, rule) })),
  };
  let next = 0;
  for (let place = 0; place < types.length; ) {
    const type = types[place] as number;
    if (type === TOKEN_TYPES.text || type === TOKEN_TYPES.audio) {
      for (const axis of positions) axis[place] = next;
      place++;
      next++;
      continue;
    }
    if (type !== image && type !== video)
      throw new InputError(`token type ${type} is none of 0 (text), 1 (image), 2 (video), 3 (sound)`);
    const visual = left[type].shift();
    if (!visual) throw new InputError(`the prompt has ${nameOf(type)} tokens but no grid is left for them`);
    const [time, height, width] = [visual.grid[0], visual.grid[1] / rule.merge, visual.grid[2] / rule.merge];
    const count = time * height * width;
    if (types.slice(place, place + count).some((other) => other !== type) || place + count > types.length)
      throw new InputError(
        `the prompt has too few ${nameOf(type)} tokens in a row for a grid of ${visual.grid.join(' x ')} patches, ` +
          `which needs ${count}; pass inputs as the processor made them`,
      );
    for (let k = 0; k < count; k++, place++) {
      const within = k % (height * width);
      (positions[0] as Int32Array)[place] = next + visual.step * Math.floor(k / (height * width));
      (positions[1] as Int32Array)[place] = next + Math.floor(within / width);
      (positions[2] as Int32Array)[place] = next + (within % width);
    }
    next += Math.max(visual.step * (time - 1), height - 1, width - 1) + 1;
  }
  for (const type of [image, video]) {
    const rest = left[type].length;
    if (rest > 0) throw new InputError(`${rest} ${nameOf(type)} grids have no tokens in the prompt`);
  }
  return { positions, delta: next - types.length };
}

/** Positions from one pair of frames to the next. */
function stepOf(
  [time]: Grid,
  seconds: number | undefined,
  index: number,
  { perSecond }: PositionRule,
): number {
  if (seconds === undefined)
    throw new InputError(
      `videoSecondPerGrid does not say how many seconds a pair of frames of video ${index + 1} takes; pass inputs as the processor made them`,
    );
  const step = seconds * perSecond;
  if (time === 1 || (Number.isInteger(step) && step >= 0 && step * time < 2 ** 31))
    return time === 1 ? 0 : step;
  throw new InputError(
    `video ${index + 1} has a pair of frames every ${seconds} seconds, ${step} of the model's positions, of which only whole numbers ` +
      `are computed with. Sample 1 or 2 frames a second, or another number that ${2 * perSecond} is a multiple of`,
  );
}

function nameOf(type: number): string {
  return type === TOKEN_TYPES.image ? 'image' : 'video';
}
