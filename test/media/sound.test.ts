import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AbortError } from '../../src/errors.ts';
import { loadSound } from '../../src/media/load-sound.ts';
import { logMel } from '../../src/media/log-mel.ts';
import { resample } from '../../src/media/resample.ts';
import { goldenModel, maxDifference, readJson } from '../helpers/goldens.ts';
import { wav } from './wav.ts';

/** A rising tone under noise, rounded to 16 bits. */
function tone(length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => {
    const noise = (Math.imul(i + 7, 2654435761) >>> 16) / 65536 - 0.5;
    const value = 0.4 * Math.sin(2 * Math.PI * ((200 * i) / 16000 + 900 * (i / 16000) ** 2)) + 0.05 * noise;
    return Math.round(value * 32767) / 32768;
  });
}

interface Case {
  samples: number;
  frames: number;
  frame0: number[];
  middle: number[];
  last: number[];
  bins: number[];
}
const { cases } = readJson<{ cases: Record<string, Case> }>(goldenModel('../sound'), 'log-mel.json');

describe('the log-mel spectrogram', () => {
  it.each(Object.entries(cases))('is that of transformers: %s', async (name, golden) => {
    const bands = Number(name.split('-')[1]);
    const config = { bands, window: 400, hop: 160, samplingRate: 16_000 };
    const { data, dims } = await logMel(tone(golden.samples), config);
    expect(dims).toEqual([bands, golden.frames]);
    const frame = (n: number) =>
      Array.from({ length: 16 }, (_, band) => data[band * golden.frames + n] as number);
    expect(maxDifference(frame(0), golden.frame0)).toBeLessThan(2e-5);
    expect(maxDifference(frame(Math.floor(golden.frames / 2)), golden.middle)).toBeLessThan(2e-5);
    expect(maxDifference(frame(golden.frames - 1), golden.last)).toBeLessThan(2e-5);
    const means = golden.bins.map((_, band) => {
      const row = data.subarray(band * golden.frames, (band + 1) * golden.frames);
      return row.reduce((a, b) => a + b, 0) / golden.frames;
    });
    expect(maxDifference(means, golden.bins)).toBeLessThan(2e-5);
  });
});

/** A file in whose header a number was changed. @param codec none of its own */
function changed(place: number, value: number, codec = 1): Buffer {
  const bytes = wav([tone(3000)], 16_000, 16);
  bytes.writeUInt16LE(codec, 20);
  bytes.writeUInt16LE(value, place);
  return bytes;
}

describe('a sound', () => {
  it('is read from integers and floats, with its channels averaged', async () => {
    const [left, right] = [tone(500), tone(500).map((x) => -0.5 * x)];
    const mean = left.map((x, i) => (x + (right[i] as number)) / 2);
    for (const bits of [16, 32, 64] as const)
      expect(maxDifference(await loadSound(wav([left, right], 16_000, bits), 16_000), mean)).toBeLessThan(
        5e-5,
      );
  });

  it('is brought to the rate that is asked for, without what that rate cannot hold', async () => {
    const sine = (hertz: number, rate: number, length: number) =>
      Float32Array.from({ length }, (_, i) => Math.sin((2 * Math.PI * hertz * i) / rate));
    const inner = (values: Float32Array) => values.slice(200, -200);
    for (const rate of [8000, 44_100, 48_000]) {
      const found = await resample(sine(1000, rate, rate / 4), rate, 16_000);
      expect(found).toHaveLength(4000);
      expect(maxDifference(inner(found), inner(sine(1000, 16_000, 4000)))).toBeLessThan(1e-3);
    }
    const tooHigh = await resample(sine(11_000, 48_000, 12_000), 48_000, 16_000);
    expect(Math.max(...inner(tooHigh).map(Math.abs))).toBeLessThan(1e-3);
  });

  it('is brought from and to rates that have nothing in common, as the definition says', async () => {
    for (const [from, to, length] of [
      [44_101, 16_000, 999],
      [767_999, 16_000, 9000],
      [1000.5, 16_000, 99],
      [1009, 48_000, 50],
    ] as const) {
      const samples = tone(length);
      const cutoff = 0.95 * Math.min(1, to / from);
      const kernel = (x: number) =>
        (Math.abs(x) > 32 ? 0 : 0.5 + 0.5 * Math.cos((Math.PI * x) / 32)) *
        (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
      const direct = Float32Array.from({ length: Math.ceil((length * to) / from) }, (_, i) =>
        samples.reduce((sum, value, n) => sum + value * cutoff * kernel((n - (i * from) / to) * cutoff), 0),
      );
      expect(maxDifference(await resample(samples, from, to), direct)).toBeLessThan(1e-6);
    }
  });

  it('is worked through piece by piece, and no further once the signal has fired', async () => {
    const bytes = wav([new Float32Array(4e6)], 44_100, 16);
    for (const input of [bytes, { samples: new Float32Array(4e6), samplingRate: 44_100 }]) {
      const ending = new AbortController();
      let turns = 0;
      const count = () => {
        if (++turns === 5) ending.abort();
        else setImmediate(count);
      };
      setImmediate(count);
      const loading = loadSound(input, 16_000, { signal: ending.signal }, 'sound 2');
      await expect(loading).rejects.toBeInstanceOf(AbortError);
      await expect(loading).rejects.toThrow(/^preparing sound 2 was aborted$/);
      expect(turns).toBe(5);
    }
  });

  it('is bounded in time, by what its header says, before it is decoded', async () => {
    const long = Buffer.concat([wav([], 1000, 16).subarray(0, 44), Buffer.alloc(7201 * 1000)]);
    long.writeUInt16LE(1, 22);
    long.writeUInt16LE(1, 32);
    long.writeUInt16LE(8, 34);
    await expect(loadSound(long, 16_000)).rejects.toThrow(/lasts 7201 seconds, over the limit of 7200/);
    const ask = (maxSeconds: number) =>
      loadSound(wav([tone(3200)], 16_000, 16), 16_000, { limits: { maxSeconds } });
    expect(await ask(0.2)).toHaveLength(3200);
    await expect(ask(0.1)).rejects.toThrow(/lasts 1 seconds, over the limit of 0\.1/);
    await expect(ask(Number.NaN)).rejects.toThrow(/limits\.maxSeconds is NaN; expected a number above 0/);
    const samples = new Float32Array(7_300_000);
    await expect(loadSound({ samples, samplingRate: 1000 }, 16_000)).rejects.toThrow(/lasts 7300 seconds/);
  });

  it('is read by the description that was checked, past parts of odd length', async () => {
    const plain = wav([tone(500)], 16_000, 16);
    const part = (name: string, bytes: Buffer) => {
      const header = Buffer.alloc(8);
      header.write(name, 'latin1');
      header.writeUInt32LE(bytes.length, 4);
      return Buffer.concat([header, bytes]);
    };
    const beginning = (...parts: Buffer[]) =>
      Buffer.concat([plain.subarray(0, 12), ...parts, plain.subarray(12)]);
    for (const bytes of [
      beginning(part('LIST', Buffer.from('odd')), Buffer.alloc(1)),
      beginning(part('LIST', Buffer.from('odd'))),
      // The last description before the samples holds.
      beginning(part('fmt ', Buffer.alloc(16, 0xff))),
    ])
      expect(maxDifference(await loadSound(bytes, 16_000), tone(500))).toBeLessThan(5e-5);
    const wild = plain.subarray(20, 36);
    const later = Buffer.concat([plain.subarray(0, 36), part('fmt ', Buffer.from(wild)), plain.subarray(36)]);
    later.writeUInt16LE(65_535, 46);
    await expect(loadSound(later, 16_000)).rejects.toThrow(/65535 channels/);
    const many = beginning(...Array.from({ length: 10_001 }, () => part('JUNK', Buffer.alloc(0))));
    await expect(loadSound(many, 16_000)).rejects.toThrow(/more than 10000 parts/);
  });

  it.each<[string, Buffer, RegExp]>([
    ['an empty file', Buffer.alloc(0), /sound \(0 bytes in memory\)/],
    ['a header alone', wav([new Float32Array(0)], 16_000, 16), /has no samples/],
    ['a file that ends in its header', wav([tone(9)], 16_000, 16).subarray(0, 30), /has no samples/],
    ['text', Buffer.from('no sound at all'), /is no WAV file\. Sound is read from WAV files/],
    ['a sample that is no number', wav([Float32Array.of(0, Number.NaN)], 16_000, 32), /sample 1 is NaN/],
    // What a decoder believed would take a gigabyte, for a file of a few kilobytes.
    ['more channels than there are bytes', changed(22, 65_535), /65535 channels, where 1 to 64/],
    ['no channel', changed(22, 0), /0 channels/],
    ['samples without bits', changed(34, 0), /2 bytes for 1 samples of 0 bits/],
    ['samples without bytes', changed(32, 0), /0 bytes for 1 samples of 16 bits/],
    ['blocks of ADPCM of a byte', changed(32, 1, 0x11), /samples in blocks of 1 bytes for 1 channels/],
    ['blocks of ADPCM of a byte', changed(32, 1, 2), /samples in blocks of 1 bytes for 1 channels/],
    ['a rate of nothing', wav([tone(9)], 0, 16), /samplingRate is 0/],
  ])('is refused as %s', async (_, bytes, message) => {
    await expect(loadSound(bytes, 16_000)).rejects.toThrow(message);
  });

  it('is refused as bare samples where one is no number', async () => {
    const samples = Float32Array.of(0, 0, Number.POSITIVE_INFINITY);
    await expect(loadSound({ samples, samplingRate: 16_000 }, 16_000)).rejects.toThrow(
      /sound: sample 2 is Infinity; expected numbers from -1 to 1/,
    );
  });

  it('is bound by the limits of the caller', async () => {
    await expect(
      loadSound(wav([tone(900)], 16_000, 16), 16_000, { limits: { maxBytes: 100 } }),
    ).rejects.toThrow(/over the limit of 100/);
    await expect(loadSound(join('nowhere', 'x.wav'), 16_000)).rejects.toThrow(/there is no such file/);
  });
});
