import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { AbortError, InputError } from '../../src/errors.ts';
import { loadImage } from '../../src/media/load-image.ts';
import type { ImageInput } from '../../src/media/types.ts';
import { FOLDER, noise } from '../models/qwen3_vl_moe/goldens.ts';
import { startProxy } from '../net/proxy-server.ts';

const path = `${FOLDER}images/gradient.png`;
const bytes = readFileSync(path);
const raw = (image: { data: Uint8Array; width: number; height: number }, channels: 1 | 3 | 4) =>
  sharp(image.data, { raw: { width: image.width, height: image.height, channels } });

it('takes no drawing, whose work nothing bounds', async () => {
  const uses = (n: number) => `<g id="a${n + 1}">${`<use href="#a${n}"/>`.repeat(10)}</g>`;
  const body = `<defs><g id="a0"><rect width="9" height="9"/></g>${[0, 1, 2, 3, 4, 5, 6, 7, 8].map(uses).join('')}</defs><use href="#a9"/>`;
  const svg = Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">${body}</svg>`);
  for (const drawing of [svg, gzipSync(svg), Buffer.concat([Buffer.from('<?xml version="1.0"?>\n'), svg])])
    await expect(loadImage(drawing)).rejects.toThrow(/no picture of a format that is read.*such as SVG/);
});

it('waits for no decoder once the signal has fired', async () => {
  const decoding = vi.spyOn(sharp.prototype, 'toBuffer').mockReturnValue(new Promise<never>(() => {}));
  onTestFinished(() => decoding.mockRestore());
  const ending = new AbortController();
  const loading = loadImage(bytes, { signal: ending.signal });
  await expect.poll(() => decoding).toHaveBeenCalled();
  ending.abort();
  await expect(loading).rejects.toBeInstanceOf(AbortError);
});

describe('loadImage takes', () => {
  let server: Server;
  let base: string;
  beforeAll(async () => {
    server = createServer((request, response) => {
      if (request.url === '/picture') response.end(bytes);
      else if (request.url === '/moved')
        response.writeHead(302, { location: 'http://elsewhere.invalid/picture' }).end();
      else if (request.url === '/slow') response.write(bytes.subarray(0, 10));
      else response.writeHead(404).end('nothing here');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  it('URLs through the proxy that the environment names, also after a redirect', async () => {
    const route = () => (server.address() as AddressInfo).port;
    const proxy = await startProxy({ route });
    onTestFinished(proxy.stop);
    onTestFinished(() => void vi.unstubAllEnvs());
    for (const name of ['http_proxy', 'HTTP_PROXY']) vi.stubEnv(name, `http://127.0.0.1:${proxy.port}`);
    for (const name of ['no_proxy', 'NO_PROXY']) vi.stubEnv(name, '127.0.0.1');
    expect((await loadImage('http://pictures.invalid/moved')).width).toBe(96);
    expect(proxy.log).toEqual(['GET http://pictures.invalid/moved', 'GET http://elsewhere.invalid/picture']);
    expect((await loadImage(`${base}/picture`)).width).toBe(96);
    expect(proxy.log).toHaveLength(2);
    await proxy.stop();
    const failed = loadImage('http://pictures.invalid/picture');
    await expect(failed).rejects.toThrow(InputError);
    await expect(failed).rejects.toThrow(
      /pictures\.invalid.*the proxy http:\/\/127\.0\.0\.1:\d+ \(http_proxy\).*ECONNREFUSED/,
    );
  });

  it('paths, URLs, bytes and raw pixels alike', async () => {
    const expected = await loadImage(path);
    expect([expected.width, expected.height]).toEqual([96, 64]);
    const percent = [...bytes].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
    const inputs: ImageInput[] = [
      pathToFileURL(path),
      pathToFileURL(path).href,
      bytes,
      new Uint8Array(bytes),
      `data:image/png;base64,${bytes.toString('base64')}`,
      `data:image/png,${percent}`,
      `${base}/picture`,
      new URL(`${base}/picture`),
      { ...expected, channels: 3 },
    ];
    for (const input of inputs) expect(await loadImage(input)).toEqual(expected);
  });

  it('nothing from a server that refuses, or past the size limit or an abort', async () => {
    await expect(loadImage(`${base}/gone`)).rejects.toThrow(
      /http.*gone\): the server answered 404 Not Found/,
    );
    const limits = { maxPixels: 1e6, maxBytes: 100 };
    await expect(loadImage(`${base}/picture`, { limits })).rejects.toThrow(
      /has \d+ bytes or more, over the limit of 100/,
    );
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    await expect(loadImage(`${base}/slow`, { signal: controller.signal })).rejects.toThrow(AbortError);
    const ended = loadImage(path, { signal: AbortSignal.abort() }, 'image 2');
    await expect(ended).rejects.toThrow(AbortError);
    await expect(ended).rejects.toThrow(/^preparing image 2 was aborted$/);
  });
});

describe('loadImage', () => {
  it('drops alpha without blending, and expands gray', async () => {
    const rgba = { data: Uint8Array.of(10, 20, 30, 0, 40, 50, 60, 128), width: 2, height: 1 };
    const rgb = Uint8Array.of(10, 20, 30, 40, 50, 60);
    expect((await loadImage(await raw(rgba, 4).png().toBuffer())).data).toEqual(rgb);
    expect((await loadImage({ ...rgba, channels: 4 })).data).toEqual(rgb);
    const gray = { data: Uint8Array.of(7, 9), width: 2, height: 1 };
    expect((await loadImage(await raw(gray, 1).png().toBuffer())).data).toEqual(
      Uint8Array.of(7, 7, 7, 9, 9, 9),
    );
    expect((await loadImage({ ...gray, channels: 1 })).data).toEqual(Uint8Array.of(7, 7, 7, 9, 9, 9));
  });

  it('keeps the upper 8 of 16 bits', async () => {
    const words = Uint16Array.of(0x0000, 0x01ff, 0x80ff, 0xffff, 0x1234, 0xabcd);
    const deep = sharp(words, { raw: { width: 2, height: 1, channels: 3 } }).toColourspace('rgb16');
    const png = await deep.png().toBuffer();
    expect((await sharp(png).metadata()).depth).toBe('ushort');
    expect((await loadImage(png)).data).toEqual(Uint8Array.of(0x00, 0x01, 0x80, 0xff, 0x12, 0xab));
  });

  it('turns a picture upright as its EXIF orientation says', async () => {
    const image = noise(2, 3);
    const turned = await raw(image, 3).withMetadata({ orientation: 6 }).png().toBuffer();
    const upright = await loadImage(turned);
    expect([upright.width, upright.height]).toEqual([2, 3]);
    // Orientation 6: the first stored column is the top row of the picture, read from below.
    expect([...upright.data.slice(0, 6)]).toEqual([...image.data.slice(9, 12), ...image.data.slice(0, 3)]);
  });

  it('converts CMYK as Pillow does', async () => {
    const flat = sharp({ create: { width: 8, height: 8, channels: 3, background: '#c08040' } });
    const jpeg = await flat.toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer();
    const options = { ignoreIcc: true };
    const inks = await sharp(jpeg, options)
      .pipelineColourspace('cmyk')
      .toColourspace('cmyk')
      .raw()
      .toBuffer();
    const [c, m, y, k] = inks as unknown as [number, number, number, number];
    const expected = [c, m, y].map((ink) => 255 - k - Math.round((ink * (255 - k)) / 255));
    expect([...(await loadImage(jpeg)).data.slice(0, 3)]).toEqual(expected);
  });
});

describe('loadImage refuses', () => {
  const pixels = { data: new Uint8Array(12), width: 2, height: 2, channels: 3 };

  it.each<[string, unknown, RegExp]>([
    [
      'two channels',
      { ...pixels, channels: 2 },
      /raw pixels have 2 channels; expected 1 \(gray\), 3 \(RGB\)/,
    ],
    ['a wrong length', { ...pixels, width: 3 }, /hold 12 bytes; expected 3 x 2 x 3 = 18/],
    ['a side of zero', { ...pixels, height: 0 }, /height is 0; expected a whole number above 0/],
    [
      'pixels that are no bytes',
      { ...pixels, data: [1, 2] },
      /no bytes; expected a Uint8Array or Uint8ClampedArray/,
    ],
    ['a missing file', '/nowhere/at-all.png', /photo \(\/nowhere\/at-all\.png\): there is no such file/],
    ['a folder', FOLDER, /is not a file/],
    ['an empty file', new Uint8Array(0), /photo \(0 bytes in memory\) is empty/],
    ['text', Buffer.from('not a picture'), /is no picture of a format that is read \(JPEG, PNG/],
    ['another kind of URL', new URL('ftp://example.invalid/a.png'), /cannot load ftp: URLs/],
    ['a data URL without data', 'data:image/png', /has no comma/],
    ['a damaged data URL', 'data:image/png,%zz', /has a % that no two hex digits follow/],
    ['null', null, /photo \(null\): a picture is a path, a URL, bytes/],
    [
      'an object of another kind',
      { data: new Uint8Array(12), width: 2 },
      /photo \(an object with data, width\): a picture is/,
    ],
    ['a number', 5, /photo \(5\): a picture is a path/],
    ['raw pixels without channels', { ...pixels, channels: undefined }, /have undefined channels/],
  ])('%s', async (_, input, message) => {
    const loading = loadImage(input as ImageInput, {}, 'photo');
    await expect(loading).rejects.toThrow(InputError);
    await expect(loading).rejects.toThrow(message);
  });

  it('damaged and cut off files, naming them', async () => {
    const jpeg = await raw(noise(64, 64), 3).jpeg().toBuffer();
    const file = join(mkdtempSync(join(tmpdir(), 'image-')), 'cut.jpg');
    writeFileSync(file, jpeg.subarray(0, jpeg.length >> 1));
    await expect(loadImage(file)).rejects.toThrow(/cut\.jpg\) cannot be decoded/);
    const flipped = Buffer.from(bytes);
    flipped.fill(0, 60, 120);
    await expect(loadImage(flipped)).rejects.toThrow(/cannot be decoded/);
  });

  it('more pixels or bytes than the limits allow', async () => {
    const limits = { maxPixels: 96 * 64 - 1, maxBytes: 1e6 };
    await expect(loadImage(path, { limits })).rejects.toThrow(
      /has 96 x 64 = 6144 pixels, more than the limit of 6143/,
    );
    const big = { data: new Uint8Array(0), width: 1e5, height: 1e5, channels: 3 };
    await expect(loadImage(big)).rejects.toThrow(/more than the limit of 178956970/);
    await expect(loadImage(path, { limits: { maxPixels: 1e6, maxBytes: 10 } })).rejects.toThrow(
      /over the limit of 10/,
    );
  });
});
