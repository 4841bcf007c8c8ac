import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { formatSeconds, frameTimes, patchTimes } from '../../src/processor/video.ts';

describe('video times', () => {
  const frames = ['a', 'b', 'c'];

  it('come from frames per second or from timestamps', () => {
    expect(frameTimes({ frames, fps: 2 }, 'video 1')).toEqual([0, 0.5, 1]);
    expect(frameTimes({ frames, timestamps: [3, 3.5, 8] }, 'video 1')).toEqual([3, 3.5, 8]);
    expect(() => frameTimes({ frames, fps: 2, timestamps: [0, 1, 2] }, 'video 1')).toThrow(
      /both fps and timestamps/,
    );
  });

  it.each<[string, object, RegExp]>([
    ['a film', 'film.mp4' as never, /video 1 is "film\.mp4"; expected frames/],
    ['nothing', null as never, /video 1 is null/],
    [
      'more frames than tokens',
      { frames: new Array(2 ** 32 - 1), fps: 1 },
      /4294967295 frames; at most 262144/,
    ],
    ['frames that never end', { frames, fps: 5e-324 }, /fps is 5e-324; expected a number that puts the last/],
    ['a rate without measure', { frames, fps: Number.POSITIVE_INFINITY }, /fps is Infinity/],
    ['a rate that is none', { frames, fps: Number.NaN }, /fps is NaN/],
    ['a rate of big numbers', { frames, fps: 2n }, /fps is 2n/],
    ['text for times', { frames, timestamps: 'abc' }, /timestamps is "abc"; expected a list of seconds/],
    ['no times', { frames, timestamps: null }, /timestamps is null/],
    ['a hole in the times', { frames, timestamps: [0, undefined, 2] }, /timestamps\[1\] is undefined/],
    ['a time beyond all', { frames, timestamps: [0, 1, 1e308] }, /timestamps\[2\] is 1e\+308/],
    [
      'times that go back',
      { frames, timestamps: [0, 2, 1] },
      /timestamps\[2\] is 1; expected seconds, 2 or later/,
    ],
    ['a time before the start', { frames, timestamps: [-1, 0, 1] }, /timestamps\[0\] is -1/],
  ])('are refused of %s', (_, video, message) => {
    expect(() => frameTimes(video as never, 'video 1')).toThrow(InputError);
    expect(() => frameTimes(video as never, 'video 1')).toThrow(message);
  });

  it('are averaged over each temporal patch, the last frame filling up', () => {
    expect(patchTimes([0, 0.5, 1], 2)).toEqual([0.25, 1]);
    expect(patchTimes([1, 2, 4, 8], 2)).toEqual([1.5, 6]);
    expect(patchTimes([1, 2, 4, 8], 3)).toEqual([2.5, 8]);
  });

  // Python: f"{x:.1f}"
  it.each([
    [0, '0.0'],
    [0.25, '0.2'],
    [0.75, '0.8'],
    [1.25, '1.2'],
    [0.35, '0.3'],
    [0.45, '0.5'],
    [2.5, '2.5'],
    [1234.56, '1234.6'],
  ])('print %f as Python does', (seconds, text) => {
    expect(formatSeconds(seconds)).toBe(text);
  });
});
