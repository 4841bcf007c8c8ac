import { InputError } from '../../errors.ts';
import type { Grid } from '../../media/types.ts';
import type { MediaGrids } from '../architecture.ts';
import type { Visual } from '../qwen3_vl_moe/positions.ts';

/**
 * Clips whose positions say when their frames were taken.
 * @param perSecond positions on the time axis that a second takes
 * @throws InputError where they would be fractions
 */
export function timedVideos({ videos, secondsPerGrid = [] }: MediaGrids, perSecond: number): Visual[] {
  return videos.map((grid, i) => ({
    grid,
    step: stepOf(grid, secondsPerGrid[i], i, perSecond),
  }));
}

/** Positions from one pair of frames to the next. */
function stepOf([time]: Grid, seconds: number | undefined, index: number, perSecond: number): number {
  if (seconds === undefined)
    throw new InputError(
      `videoSecondPerGrid does not say how many seconds a pair of frames of video ${index + 1} takes; pass inputs as the processor made them`,
    );
  if (time === 1) return 0;
  const step = seconds * perSecond;
  if (Number.isInteger(step) && step >= 0 && step * time < 2 ** 31) return step;
  throw new InputError(
    `video ${index + 1} has a pair of frames every ${seconds} seconds, ${step} of the model's positions, of which only whole numbers ` +
      `are computed with. Sample 1 or 2 frames a second, or another number that ${2 * perSecond} is a multiple of`,
  );
}
