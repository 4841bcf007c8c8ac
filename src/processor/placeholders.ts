import { InputError } from '../errors.ts';
import type { Grid } from '../media/types.ts';
import type { PlaceholderIds } from '../models/architecture.ts';
import { formatSeconds } from './video.ts';

/** The special tokens of Qwen-VL prompts as text. */
export const IMAGE_PLACEHOLDER = '<|image_pad|>';
export const VIDEO_PLACEHOLDER = '<|video_pad|>';
export const AUDIO_PLACEHOLDER = '<|audio_pad|>';
export const VISION_START = '<|vision_start|>';
export const VISION_END = '<|vision_end|>';
export const AUDIO_START = '<|audio_start|>';
export const AUDIO_END = '<|audio_end|>';

/** How many there are of a kind, and in each text where that was said. */
export interface MediaCount {
  readonly total: number;
  readonly byText?: readonly number[] | undefined;
}

export interface MediaCounts {
  readonly images: MediaCount;
  readonly videos: MediaCount;
  /** Undefined for a model that does not hear. */
  readonly sounds: MediaCount | undefined;
}

interface Kind {
  readonly kind: string;
  readonly marks: readonly [string, string, string];
}

/**
 * Checks that the texts name as many pictures, videos and sounds as were given.
 *
 * @throws InputError with both counts
 */
export function checkPlaceholders(texts: readonly string[], { images, videos, sounds }: MediaCounts): void {
  checkCounts(texts, { kind: 'image', marks: [VISION_START, IMAGE_PLACEHOLDER, VISION_END] }, images);
  checkCounts(texts, { kind: 'video', marks: [VISION_START, VIDEO_PLACEHOLDER, VISION_END] }, videos);
  if (sounds !== undefined)
    checkCounts(texts, { kind: 'audio', marks: [AUDIO_START, AUDIO_PLACEHOLDER, AUDIO_END] }, sounds);
  else if (texts.some((text) => text.includes(AUDIO_PLACEHOLDER)))
    throw new InputError(
      `the text has an audio placeholder (${AUDIO_PLACEHOLDER}), but the model does not hear: leave it out, and parts of type audio`,
    );
}

function checkCounts(texts: readonly string[], kind: Kind, { total, byText }: MediaCount): void {
  const counts = texts.map((text) => text.split(kind.marks[1]).length - 1);
  const sum = counts.reduce((a, b) => a + b, 0);
  if (!byText) {
    const where = texts.length === 1 ? 'the text has' : `the ${texts.length} texts together have`;
    checkCount(where, kind, sum, total);
    return;
  }
  for (const [i, count] of counts.entries())
    checkCount(texts.length === 1 ? 'the text has' : `text ${i + 1} has`, kind, count, byText[i] as number);
}

/** @param where the placeholders were counted, as the beginning of a sentence */
function checkCount(where: string, { kind, marks }: Kind, named: number, given: number): void {
  if (named === given) return;
  const placeholder = marks[1];
  const count = (n: number, noun: string) => `${n} ${noun}${n === 1 ? '' : 's'}`;
  const remedy =
    named < given
      ? `put ${marks.join('')} where each ${kind} belongs, or use applyChatTemplate with a ` +
        `{ type: '${kind}' } part for it`
      : `pass one ${kind} for each, in the order of the text, or take out what is meant as words`;
  throw new InputError(
    `${where} ${count(named, `${kind} placeholder`)} (${placeholder}), but ${count(given, kind)} ` +
      `${given === 1 ? 'was' : 'were'} given: ${remedy}`,
  );
}

/**
 * Replaces each video placeholder by one for every temporal patch, each after the time it shows and between vision
 * marks of its own (HF `Qwen3VLProcessor.replace_video_token`; marks around the placeholder stay, as there).
 *
 * @param patchTimes per video the seconds of its temporal patches
 */
export function expandVideos(texts: readonly string[], patchTimes: readonly (readonly number[])[]): string[] {
  let next = 0;
  return texts.map((text) =>
    text.replaceAll(VIDEO_PLACEHOLDER, () =>
      (patchTimes[next++] as readonly number[])
        .map((time) => `<${formatSeconds(time)} seconds>${VISION_START}${VIDEO_PLACEHOLDER}${VISION_END}`)
        .join(''),
    ),
  );
}

/** Tokens of each picture, or clip that is one stretch of tokens: its patches divided by those that merge into one token. */
export function gridTokenCounts(grids: readonly Grid[], mergeSize: number): number[] {
  return grids.map(([t, h, w]) => (t * h * w) / mergeSize ** 2);
}

/** Tokens of each temporal patch of the videos, one after the other. */
export function videoTokenCounts(grids: readonly Grid[], mergeSize: number): number[] {
  return grids.flatMap(([t, h, w]) => new Array<number>(t).fill((h * w) / mergeSize ** 2));
}

/**
 * Repeats placeholder ids as often as their picture has tokens.
 *
 * @param counts tokens of each picture, of each temporal patch and of each sound, in the order of the rows
 */
export function expandIds(
  rows: readonly (readonly number[])[],
  ids: PlaceholderIds,
  counts: {
    readonly images: readonly number[];
    readonly videos: readonly number[];
    readonly sounds: readonly number[];
  },
): number[][] {
  let image = 0;
  let video = 0;
  let sound = 0;
  return rows.map((row) => {
    const expanded: number[] = [];
    for (const id of row) {
      let times = 1;
      if (id === ids.image) times = counts.images[image++] ?? 0;
      else if (id === ids.video) times = counts.videos[video++] ?? 0;
      else if (id === ids.audio) times = counts.sounds[sound++] ?? 0;
      for (let i = 0; i < times; i++) expanded.push(id);
    }
    return expanded;
  });
}
