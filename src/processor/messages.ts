import { expected, InputError, show } from '../errors.ts';
import type { ImageInput, SoundInput, VideoInput } from '../media/types.ts';
import type { PixelBounds } from './pixel-bounds.ts';

/** One turn of a conversation; `content` is text or a list of parts. */
export interface ProcessorMessage {
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

/** Pictures, videos and sounds in the order of their parts. */
export interface MessageMedia {
  readonly images: readonly ImageInput[];
  readonly videos: readonly VideoInput[];
  readonly sounds: readonly SoundInput[];
  /** What the parts say of the size of their picture or video; undefined where nothing. */
  readonly imageBounds: readonly (PartBounds | undefined)[];
  readonly videoBounds: readonly (PartBounds | undefined)[];
}

export interface PartBounds {
  readonly bounds: PixelBounds;
  /** The part, for messages. */
  readonly where: string;
}

type Part = Record<string, unknown>;

const IMAGE_KEYS = ['image', 'image_url', 'url', 'path'];
/** Bounds may also be spelt as in messages written for Python. */
const BOUND_KEYS: Readonly<Record<string, keyof PixelBounds>> = {
  minPixels: 'minPixels',
  maxPixels: 'maxPixels',
  min_pixels: 'minPixels',
  max_pixels: 'maxPixels',
  size: 'size',
};
/** Settings of Python's qwen-vl-utils that are not served. */
const UNSERVED_KEYS = ['resized_height', 'resized_width', 'total_pixels'];
const AUDIO_TYPES = ['audio', 'audio_url', 'input_audio'];
const AUDIO_KEYS = [...AUDIO_TYPES, 'url', 'path'];
const VIDEO_KEYS = ['video', 'frames', 'fps', 'timestamps', 'url', 'path'];

/**
 * The pictures, videos and sounds that the parts of messages carry. An image part is `{ type: 'image' }` with the picture as
 * `image`, `url` or `path`, or `{ type: 'image_url', image_url: string | { url } }`; a video part is
 * `{ type: 'video' }` with `video` (a `VideoInput`, or a list of frames with `fps` or `timestamps` beside it). An audio part
 * is `{ type: 'audio' }` with `audio`, `url` or `path`, `{ type: 'audio_url' }` or `{ type: 'input_audio' }`. A part without a picture or
 * sound takes the next one of those `given`. Either may have bounds on its pixels beside it: `minPixels`, `maxPixels`
 * or `size`.
 *
 * @throws InputError where parts and pictures do not match up
 */
export function collectMedia(
  messages: readonly ProcessorMessage[],
  given: Pick<MessageMedia, 'images' | 'videos' | 'sounds'> & { readonly hears: boolean },
): MessageMedia {
  const imageSupply = new Supply('image', given.images);
  const videoSupply = new Supply('video', given.videos);
  const soundSupply = new Supply('audio', given.sounds);
  const found = {
    images: [] as ImageInput[],
    videos: [] as VideoInput[],
    sounds: [] as SoundInput[],
    imageBounds: [] as (PartBounds | undefined)[],
    videoBounds: [] as (PartBounds | undefined)[],
  };
  mapParts(messages, (part, where) => {
    if (isImagePart(part)) {
      found.images.push(imageOf(part, where) ?? imageSupply.take(where));
      found.imageBounds.push(boundsOf(part, where));
    }
    if (isVideoPart(part)) {
      found.videos.push(videoOf(part, where) ?? videoSupply.take(where));
      found.videoBounds.push(boundsOf(part, where));
    }
    if (isAudioPart(part, where, given.hears))
      found.sounds.push(soundOf(part, where) ?? soundSupply.take(where));
    return part;
  });
  imageSupply.expectEmpty();
  videoSupply.expectEmpty();
  soundSupply.expectEmpty();
  return found;
}

/** The messages as a chat template reads them: parts say that there is a picture, but do not carry it. */
export function withoutMedia(messages: readonly ProcessorMessage[], hears: boolean): ProcessorMessage[] {
  return mapParts(messages, (part, where) => {
    if (isImagePart(part))
      return { ...without(part, [...IMAGE_KEYS, ...Object.keys(BOUND_KEYS)]), type: 'image' };
    if (isVideoPart(part))
      return { ...without(part, [...VIDEO_KEYS, ...Object.keys(BOUND_KEYS)]), type: 'video' };
    if (isAudioPart(part, where, hears)) return { ...without(part, AUDIO_KEYS), type: 'audio' };
    return part;
  });
}

/** @throws InputError when `messages` is no list */
function mapParts(
  messages: readonly ProcessorMessage[],
  map: (part: Part, where: string) => Part,
): ProcessorMessage[] {
  if (!Array.isArray(messages)) {
    throw new InputError(expected('messages', messages, 'a list of { role, content }'));
  }
  return messages.map((message: ProcessorMessage, i) => {
    if (!Array.isArray(message?.content)) return message;
    const content = message.content.map((part: unknown, j) =>
      typeof part === 'object' && part !== null
        ? mapPart(part as Part, `messages[${i}].content[${j}]`, map)
        : part,
    );
    return { ...message, content };
  });
}

/** Kinds of parts that a template would leave out without a word. */
const UNSEEN: Readonly<Record<string, string>> = {
  video_url:
    "video files are not decoded here; pass sampled frames as { type: 'video', video: { frames, fps } }",
};

/** @throws InputError for a part that would be dropped */
function mapPart(part: Part, where: string, map: (part: Part, where: string) => Part): Part {
  const kind = typeof part.type === 'string' ? part.type : Object.keys(UNSEEN).find((name) => name in part);
  if (kind !== undefined && Object.hasOwn(UNSEEN, kind))
    throw new InputError(`${where} is of type ${show(kind)}: ${UNSEEN[kind]}`);
  return map(part, where);
}

function isImagePart(part: Part): boolean {
  return part.type === 'image' || part.type === 'image_url' || (part.type === undefined && 'image' in part);
}

function isVideoPart(part: Part): boolean {
  return part.type === 'video' || (part.type === undefined && 'video' in part);
}

/** @throws InputError where the model does not hear */
function isAudioPart(part: Part, where: string, hears: boolean): boolean {
  const kind = typeof part.type === 'string' ? part.type : AUDIO_TYPES.find((key) => key in part);
  if (kind === undefined || !AUDIO_TYPES.includes(kind)) return false;
  if (hears) return true;
  throw new InputError(`${where} is of type ${show(kind)}: the model does not hear; leave it out`);
}

/** The sound of a part: as `audio`, `url` or `path`, as `audio_url`, or as OpenAI's `input_audio: { data, format }`. */
function soundOf(part: Part, where: string): SoundInput | undefined {
  const { audio_url: audioUrl, input_audio: encoded } = part;
  const url = typeof audioUrl === 'object' && audioUrl !== null ? (audioUrl as Part).url : audioUrl;
  const given = [part.audio, url, part.url, part.path, encoded && inputAudio(encoded, where)].filter(
    (source) => source !== undefined && source !== null,
  );
  return single(given, where, 'sound') as SoundInput | undefined;
}

/** @throws InputError for several, be it under several names or in a list */
function single(given: readonly unknown[], where: string, what: string): unknown {
  const [first] = given;
  if (given.length < 2 && !Array.isArray(first)) return first;
  const count = Array.isArray(first) && given.length < 2 ? first.length : given.length;
  throw new InputError(`${where} names ${count} ${what}s; expected one, and a part for each`);
}

function inputAudio(encoded: unknown, where: string): Uint8Array {
  const { data, format } = encoded as Part;
  if (typeof data !== 'string' || format !== 'wav')
    throw new InputError(
      `${where}.input_audio: ${expected('format', format, '"wav", and data in base64')}; convert other formats first`,
    );
  return Buffer.from(data, 'base64');
}

function boundsOf(part: Part, where: string): PartBounds | undefined {
  const unserved = UNSERVED_KEYS.find((key) => (part[key] ?? undefined) !== undefined);
  if (unserved !== undefined)
    throw new InputError(
      `${where}: ${unserved} is not supported; bound the size with minPixels and maxPixels`,
    );
  const given = Object.entries(BOUND_KEYS).filter(([key]) => (part[key] ?? undefined) !== undefined);
  if (given.length === 0) return undefined;
  return { where, bounds: Object.fromEntries(given.map(([key, name]) => [name, part[key]])) };
}

function imageOf(part: Part, where: string): ImageInput | undefined {
  const { image_url: imageUrl } = part;
  const url = typeof imageUrl === 'object' && imageUrl !== null ? (imageUrl as Part).url : imageUrl;
  const given = [part.image, url, part.url, part.path].filter(
    (source) => source !== undefined && source !== null,
  );
  return single(given, where, 'picture') as ImageInput | undefined;
}

function videoOf(part: Part, where: string): VideoInput | undefined {
  const video = part.video ?? part.frames;
  if (
    typeof video === 'string' ||
    video instanceof URL ||
    part.url !== undefined ||
    part.path !== undefined
  ) {
    throw new InputError(
      `${where}: video files are not decoded here. Sample frames from the film and pass ` +
        `{ type: 'video', video: { frames, fps } }`,
    );
  }
  if (video === undefined || video === null) return undefined;
  if (!Array.isArray(video)) return video as VideoInput;
  const { fps, timestamps } = part;
  return {
    frames: video as ImageInput[],
    ...(fps === undefined ? {} : { fps: fps as number }),
    ...(timestamps === undefined ? {} : { timestamps: timestamps as number[] }),
  };
}

function without(part: Part, keys: readonly string[]): Part {
  return Object.fromEntries(Object.entries(part).filter(([key]) => !keys.includes(key)));
}

/** The pictures or videos passed beside the messages, handed out in order. */
class Supply<T> {
  readonly #kind: string;
  readonly #items: readonly T[];
  #next = 0;

  constructor(kind: string, items: readonly T[]) {
    this.#kind = kind;
    this.#items = items;
  }

  take(where: string): T {
    if (this.#next === this.#items.length) {
      throw new InputError(
        `${where} is the part of ${this.#kind} ${this.#next + 1}, but ${this.#items.length} were passed as ` +
          `${this.#kind}s: put the ${this.#kind} into the part, or pass one more`,
      );
    }
    return this.#items[this.#next++] as T;
  }

  expectEmpty(): void {
    const left = this.#items.length - this.#next;
    if (left > 0) {
      throw new InputError(
        `${this.#items.length} ${this.#kind}s were passed, but the messages have parts for ${this.#next} of them: ` +
          `add a { type: '${this.#kind}' } part for each`,
      );
    }
  }
}
