import { describe, expect, it } from 'vitest';
import { formatSeconds, frameTimes, patchTimes } from '../../../src/models/qwen3_vl_moe/video.ts';

describe('video times', () => {
  const frames = ['a', 'b', 'c'];

  it('come from frames per second or from timestamps', () => {
    expect(frameTimes({ frames, fps: 2 }, 'video 1')).toEqual([0, 0.5, 1]);
    expect(frameTimes({ frames, timestamps: [3, 3.5, 8] }, 'video 1')).toEqual([3, 3.5, 8]);
    expect(() => frameTimes({ frames, fps: 2, timestamps: [0, 1, 2] }, 'video 1')).toThrow(
      /both fps and timestamps/,
    );
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
