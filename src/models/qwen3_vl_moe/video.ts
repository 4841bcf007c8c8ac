import { expected, InputError } from '../../errors.ts';
import type { VideoInput } from '../../media/types.ts';
import { roundHalfEven } from './smart-resize.ts';

/**
 * When each frame was taken, in seconds.
 *
 * @param name what to call the video in messages, such as `video 1`
 * @throws InputError when there are no frames, or neither or both of fps and timestamps, or these are no good
 */
export function frameTimes({ frames, fps, timestamps }: VideoInput, name: string): number[] {
  if (!Array.isArray(frames) || frames.length === 0) {
    throw new InputError(expected(`${name}: frames`, frames, 'a list of one or more pictures'));
  }
  if ((fps === undefined) === (timestamps === undefined)) {
    throw new InputError(
      `${name} has ${fps === undefined ? 'neither fps nor' : 'both fps and'} timestamps: the model is told when each ` +
        'frame was taken, so give one of them (frames per second, or seconds per frame)',
    );
  }
  if (timestamps === undefined) {
    if (!(Number.isFinite(fps) && (fps as number) > 0)) {
      throw new InputError(expected(`${name}: fps`, fps, 'a number above 0'));
    }
    return frames.map((_, i) => i / (fps as number));
  }
  if (timestamps.length !== frames.length) {
    throw new InputError(`${name} has ${frames.length} frames but ${timestamps.length} timestamps`);
  }
  timestamps.forEach((time, i) => {
    const earlier = i === 0 ? 0 : (timestamps[i - 1] as number);
    if (!Number.isFinite(time) || time < earlier) {
      throw new InputError(expected(`${name}: timestamps[${i}]`, time, `seconds, ${earlier} or later`));
    }
  });
  return [...timestamps];
}

/**
 * The time the prompt gives for each temporal patch: halfway between its first and last frame; the last frame fills up
 * the last patch (HF `Qwen3VLProcessor._calculate_timestamps`).
 */
export function patchTimes(times: readonly number[], temporalPatchSize: number): number[] {
  const patches = Math.ceil(times.length / temporalPatchSize);
  return Array.from({ length: patches }, (_, i) => {
    const first = i * temporalPatchSize;
    const last = Math.min(first + temporalPatchSize, times.length) - 1;
    return ((times[first] as number) + (times[last] as number)) / 2;
  });
}

/** One decimal, and a tie to the even digit as Python's `.1f`: 0.25 becomes `0.2`, where `toFixed` gives `0.3`. */
export function formatSeconds(seconds: number): string {
  // Only odd multiples of 1/4 are ties: no other double ends in exactly 5 in the second decimal and nothing after it.
  const tie = Number.isInteger(seconds * 4) && !Number.isInteger(seconds * 2);
  return (tie ? roundHalfEven(seconds * 10) / 10 : seconds).toFixed(1);
}
