import { expected, InputError } from '../errors.ts';
import type { VideoInput } from '../media/types.ts';
import { roundHalfEven } from './smart-resize.ts';

/** Frames of a video: more would be more tokens than any model reads. */
const MOST_FRAMES = 2 ** 18;
/** Seconds, so that times stay numbers that a prompt can name: some 30 years. */
const LATEST = 1e9;

/**
 * When each frame was taken, in seconds.
 *
 * @param name what to call the video in messages, such as `video 1`
 * @throws InputError when there are no frames, or neither or both of fps and timestamps, or these are no good
 */
export function frameTimes(video: VideoInput, name: string): number[] {
  if (typeof video !== 'object' || video === null)
    throw new InputError(expected(name, video, 'frames that were sampled from it: { frames, fps }'));
  const { frames, fps, timestamps } = video;
  if (!Array.isArray(frames) || frames.length === 0) {
    throw new InputError(expected(`${name}: frames`, frames, 'a list of one or more pictures'));
  }
  if (frames.length > MOST_FRAMES)
    throw new InputError(
      `${name} has ${frames.length} frames; at most ${MOST_FRAMES} are taken. Sample fewer from the film`,
    );
  if ((fps === undefined) === (timestamps === undefined)) {
    throw new InputError(
      `${name} has ${fps === undefined ? 'neither fps nor' : 'both fps and'} timestamps: the model is told when each ` +
        'frame was taken, so give one of them (frames per second, or seconds per frame)',
    );
  }
  return timestamps === undefined
    ? evenTimes(frames.length, fps as number, name)
    : givenTimes(frames.length, timestamps, name);
}

/**
 * Frames a second, of a video whose times are told as one step.
 * @throws InputError for one with timestamps
 */
export function frameRate({ fps }: VideoInput, name: string): number {
  if (fps !== undefined) return fps;
  throw new InputError(
    `${name} has timestamps; this model is told one step of time from frame to frame: sample frames evenly, and give fps`,
  );
}

function evenTimes(count: number, fps: number, name: string): number[] {
  if (!(Number.isFinite(fps) && fps > 0))
    throw new InputError(expected(`${name}: fps`, fps, 'a number above 0'));
  if ((count - 1) / fps > LATEST)
    throw new InputError(
      expected(
        `${name}: fps`,
        fps,
        `a number that puts the last of ${count} frames before ${LATEST} seconds`,
      ),
    );
  return Array.from({ length: count }, (_, i) => i / fps);
}

function givenTimes(count: number, timestamps: readonly number[], name: string): number[] {
  if (!Array.isArray(timestamps))
    throw new InputError(expected(`${name}: timestamps`, timestamps, 'a list of seconds'));
  if (timestamps.length !== count)
    throw new InputError(`${name} has ${count} frames but ${timestamps.length} timestamps`);
  let earlier = 0;
  for (const [i, time] of timestamps.entries()) {
    if (!(Number.isFinite(time) && time >= earlier && time <= LATEST))
      throw new InputError(
        expected(`${name}: timestamps[${i}]`, time, `seconds, ${earlier} or later, at most ${LATEST}`),
      );
    earlier = time;
  }
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
