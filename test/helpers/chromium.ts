import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const NAMES = [
  'chromium',
  'chromium-browser',
  'chromium-headless-shell',
  'google-chrome',
  'google-chrome-stable',
];

/** A Chromium of this machine: what SWITCHYARD_TEST_CHROMIUM names, or one on the PATH; undefined where there is none. */
export function findChromium(): string | undefined {
  const { SWITCHYARD_TEST_CHROMIUM: named, PATH = '' } = process.env;
  if (named) return named;
  const places = PATH.split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name)));
  return places.find((place) => existsSync(place));
}
