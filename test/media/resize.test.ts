import { createHash } from 'node:crypto';
import { describe, expect, it, vi } from 'vitest';
import { AbortError } from '../../src/errors.ts';
import { Pacer } from '../../src/media/pacer.ts';
import { resizeBicubic } from '../../src/media/resize.ts';
import { noise } from '../models/qwen3_vl_moe/goldens.ts';

// SHA-256 (first 16 digits) of what torch 2.13 gives for
// interpolate(uint8 NCHW, size, mode="bicubic", antialias=True), written back as HWC.
const torch: [number, number, number, number, string][] = [
  [23, 37, 32, 64, '3760f28071c03f88'],
  [200, 300, 32, 64, '4f738f84ecb2ab9e'],
  [64, 64, 64, 32, '29a1600f156ee4e5'],
  [5, 7, 160, 96, '9b835d369eed84fd'],
  [301, 64, 96, 64, '4eb38311f46308e4'],
  [1, 150, 32, 800, 'cf959672237abb1a'],
  [97, 89, 96, 96, 'f1580cb4fd25f4db'],
];

describe('resizeBicubic', () => {
  it.each(torch)('takes %i x %i to %i x %i bit for bit as torch', async (h, w, height, width, digest) => {
    const resized = await resizeBicubic(noise(h, w), { height, width });
    expect([resized.height, resized.width]).toEqual([height, width]);
    expect(createHash('sha256').update(resized.data).digest('hex').slice(0, 16)).toBe(digest);
  });

  it('returns the picture itself when it has the size already', async () => {
    const image = noise(32, 32);
    expect(await resizeBicubic(image, { height: 32, width: 32 })).toBe(image);
  });

  it('keeps a flat picture flat, also at its edges', async () => {
    const flat = { data: new Uint8Array(40 * 30 * 3).fill(201), width: 40, height: 30 };
    const resized = await resizeBicubic(flat, { height: 64, width: 96 });
    expect(new Set(resized.data)).toEqual(new Set([201]));
  });

  it('gives way to timers between rows', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await resizeBicubic(noise(2000, 2000), { height: 1984, width: 1984 });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(0);
  });

  it('stops when its signal fires', async () => {
    const controller = new AbortController();
    const pacer = new Pacer('preparing the images', controller.signal);
    const turn = vi.spyOn(pacer, 'turn');
    turn.mockImplementationOnce(async () => controller.abort('enough'));
    const work = resizeBicubic(noise(120, 120), { height: 96, width: 96 }, pacer);
    await expect(work).rejects.toThrow(AbortError);
    expect(turn).toHaveBeenCalledTimes(2);
  });
});
