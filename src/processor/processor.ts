import { abortable, expected, InputError, TokenizerError } from '../errors.ts';
import type { Repo } from '../hub/types.ts';
import { limitsOf } from '../media/limits.ts';
import type {
  Grid,
  ImageInput,
  LoadOptions,
  PixelValues,
  SoundInput,
  SoundValues,
  VideoInput,
} from '../media/types.ts';
import { type MediaPart, type PlaceholderIds, type SoundPart, tokenTypes } from '../models/architecture.ts';
import { checkOpenOptions, checkOptions, noMore } from '../options.ts';
import { processImages, processVideos } from './image-processor.ts';
import { collectMedia, type PartBounds, type ProcessorMessage, withoutMedia } from './messages.ts';
import { BOUNDS, type PixelBounds, withBounds } from './pixel-bounds.ts';
import {
  AUDIO_END,
  AUDIO_PLACEHOLDER,
  AUDIO_START,
  checkPlaceholders,
  expandIds,
  expandVideos,
  gridTokenCounts,
  IMAGE_PLACEHOLDER,
  type MediaCount,
  VIDEO_PLACEHOLDER,
  VISION_END,
  VISION_START,
  videoTokenCounts,
} from './placeholders.ts';
import { type ImageConfig, type ProcessorConfig, readProcessorConfig } from './processor-config.ts';
import { processSounds, soundTokenCounts } from './sound-processor.ts';
import { refuseTyped } from './typed-placeholders.ts';

/** What a processor needs of a tokenizer. */
export interface ProcessorTokenizer {
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /** As `encode`, while the event loop turns; used for prompts where it is there. */
  encodeAsync?(
    text: string,
    options?: { addSpecialTokens?: boolean; signal?: AbortSignal },
  ): Promise<number[]>;
  /** Pads on the left to one length. */
  pad(rows: readonly (readonly number[])[]): { inputIds: number[][]; attentionMask: number[][] };
  tokenToId(token: string): number | undefined;
  applyChatTemplate(messages: readonly ProcessorMessage[], options: { tokenize: false }): string;
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  batchDecode(rows: readonly (readonly number[])[], options?: { skipSpecialTokens?: boolean }): string[];
}

export type OneOrMore<V> = V | readonly V[] | readonly (readonly V[])[] | undefined;

/** What a processor is called with. Pictures and videos belong to the placeholders of the texts, in order. */
export interface ProcessorInputs extends LoadOptions, PixelBounds {
  text: string | readonly string[];
  /** In the order of their placeholders; or a list for each text. */
  images?: OneOrMore<ImageInput>;
  videos?: OneOrMore<VideoInput>;
  /** Of a model that hears. */
  audio?: OneOrMore<SoundInput>;
  /** Lets the tokenizer add its start or end tokens (Qwen's has none). Default true. */
  addSpecialTokens?: boolean | undefined;
  /** Pads shorter rows on the left. Default true. */
  padding?: boolean | undefined;
}

/** Options of `applyChatTemplate`; fields not named here are variables of the template, such as `add_vision_id`. */
export interface ProcessorChatOptions extends LoadOptions, PixelBounds {
  /** For image parts that do not carry their picture. */
  images?: OneOrMore<ImageInput>;
  videos?: OneOrMore<VideoInput>;
  audio?: OneOrMore<SoundInput>;
  tools?: readonly unknown[] | undefined;
  addGenerationPrompt?: boolean | undefined;
  continueFinalMessage?: boolean | undefined;
  /** False returns the text, with one placeholder a picture. Default true. */
  tokenize?: boolean | undefined;
  [templateArgument: string]: unknown;
}

const MEDIA_OPTIONS = ['images', 'videos', 'audio', 'limits', 'signal', ...BOUNDS] as const;
const CALL_OPTIONS: readonly string[] = [
  ...MEDIA_OPTIONS,
  ...(['text', 'addSpecialTokens', 'padding'] as const satisfies readonly (keyof ProcessorInputs)[]),
];
const CHAT_OPTIONS: readonly string[] = [
  ...MEDIA_OPTIONS,
  ...['tools', 'documents', 'addGenerationPrompt', 'continueFinalMessage', 'tokenize', 'chatTemplate'],
];

/** Inputs of an image-text model, named as in transformers. */
export interface ProcessorOutput {
  /** [rows, tokens], each placeholder repeated once a token of its picture. */
  inputIds: number[][];
  /** [rows, tokens]; 1 for a token, 0 for padding. */
  attentionMask: number[][];
  /** [rows, tokens]; 0 = text, 1 = image, 2 = video, 3 = sound. */
  mmTokenTypeIds: number[][];
  /** All pictures one after the other; absent without pictures. */
  pixelValues?: PixelValues;
  imageGridThw?: Grid[];
  pixelValuesVideos?: PixelValues;
  videoGridThw?: Grid[];
  /** Seconds from one pair of frames to the next, of each video; where the prompt does not name times. */
  videoSecondPerGrid?: number[];
  /** Spectrograms of all sounds, and which frames are theirs; absent without sounds. */
  inputFeatures?: SoundValues;
  featureAttentionMask?: number[][];
}

export type ProcessorCall = (inputs: ProcessorInputs) => Promise<ProcessorOutput>;

const UNCOUNTED =
  'how many tokens a sound takes is for the model to say, and there is no config.json of a supported model that hears beside the ' +
  "processor's settings: leave audio out, or take processor and config.json from one repo";

// Instances are functions: a constructor may return any object, and the fields of a derived class land on it.
const CallableProcessor = class {
  constructor() {
    const self: Processor = Object.setPrototypeOf(
      (inputs: ProcessorInputs, ...rest: never[]) => self.process(inputs, ...rest),
      new.target.prototype,
    );
    // biome-ignore lint/correctness/noConstructorReturn: this is what makes the instance callable.
    return self;
  }
} as unknown as new () => ProcessorCall;

/**
 * Text, pictures and sounds to model inputs. Callable: `await processor({ text, images })`.
 * Mirrors HF `Qwen3VLProcessor`; made by `loadProcessor`.
 */
export class Processor<T extends ProcessorTokenizer = ProcessorTokenizer> extends CallableProcessor {
  readonly tokenizer: T;
  readonly config: ProcessorConfig;
  /** What stands for a picture in a raw prompt, and what to put where one belongs: the placeholder between its marks. */
  readonly imageToken = IMAGE_PLACEHOLDER;
  readonly imageMark = `${VISION_START}${IMAGE_PLACEHOLDER}${VISION_END}`;
  /** The same for a sound; of a model that hears. */
  readonly audioToken = AUDIO_PLACEHOLDER;
  readonly audioMark = `${AUDIO_START}${AUDIO_PLACEHOLDER}${AUDIO_END}`;
  readonly #ids: PlaceholderIds;
  readonly #hearing: SoundPart | undefined;

  /**
   * @param media of the model, where it is known: which tokens the placeholders are, and how many a sound takes
   * @throws TokenizerError when the tokenizer lacks the placeholder tokens, or has them under other ids
   */
  constructor(tokenizer: T, config: ProcessorConfig, media?: MediaPart) {
    super();
    this.tokenizer = tokenizer;
    this.config = config;
    this.#hearing = media?.sound;
    const ids = media?.placeholders;
    this.#ids = {
      image: tokenId(tokenizer, IMAGE_PLACEHOLDER, ids?.image),
      video: tokenId(tokenizer, VIDEO_PLACEHOLDER, ids?.video),
      ...(config.sound && {
        audio: tokenId(tokenizer, AUDIO_PLACEHOLDER, ids?.audio),
      }),
    };
  }

  get #hears(): boolean {
    return this.config.sound !== undefined;
  }

  /**
   * Encodes texts and prepares their pictures. Calling the processor does the same.
   *
   * @throws InputError when placeholders and pictures differ in number, or a picture cannot be used
   * @throws AbortError
   */
  async process(inputs: ProcessorInputs, ...rest: never[]): Promise<ProcessorOutput> {
    noMore(rest, 'processor', 'options stand beside text and images');
    checkOptions(inputs, CALL_OPTIONS, 'processor');
    return abortable(inputs.signal, 'the processor', () => this.#process(inputs));
  }

  /** @param parts bounds of single pictures and videos, in order */
  async #process(
    inputs: ProcessorInputs,
    parts: {
      readonly images?: readonly (PartBounds | undefined)[];
      readonly videos?: readonly (PartBounds | undefined)[];
    } = {},
  ): Promise<ProcessorOutput> {
    limitsOf(inputs.limits);
    const { addSpecialTokens = true, padding = true } = inputs;
    const config = {
      image: withBounds(this.config.image, inputs, 'processor'),
      video: withBounds(this.config.video, inputs, 'processor'),
    };
    const texts = checkTexts(inputs.text);
    const given = {
      images: gather(inputs.images, 'images', texts.length),
      videos: gather(inputs.videos, 'videos', texts.length),
      sounds: gather(inputs.audio, 'audio', texts.length),
    };
    const [images, videos, sounds] = [given.images.all, given.videos.all, given.sounds.all];
    if (sounds.length > 0 && !this.config.sound)
      throw new InputError('the model does not hear: leave audio out');
    checkPlaceholders(texts, {
      ...given,
      sounds: this.config.sound && given.sounds,
    });
    const hearing = sounds.length > 0 ? this.#hearing : undefined;
    if (sounds.length > 0 && !hearing) throw new InputError(UNCOUNTED);
    const imageConfigs = eachConfig(config.image, parts.images);
    const videoConfigs = eachConfig(config.video, parts.videos);
    const ofImages =
      images.length > 0 ? await processImages(images, config.image, inputs, imageConfigs) : undefined;
    const ofVideos =
      videos.length > 0 ? await processVideos(videos, config.video, inputs, videoConfigs) : undefined;
    const ofSounds =
      this.config.sound && hearing ? await processSounds(sounds, this.config.sound, inputs) : undefined;
    const { wholeClip } = this.config.video;
    const expanded = wholeClip ? texts : expandVideos(texts, ofVideos?.patchTimes ?? []);
    const videoTokens = wholeClip ? gridTokenCounts : videoTokenCounts;
    const rows = expandIds(await this.#encodeAll(expanded, addSpecialTokens, inputs.signal), this.#ids, {
      images: gridTokenCounts(ofImages?.gridThw ?? [], this.config.image.mergeSize),
      videos: videoTokens(ofVideos?.gridThw ?? [], this.config.video.mergeSize),
      sounds: ofSounds && hearing ? soundTokenCounts(ofSounds, hearing) : [],
    });
    const batch = padding
      ? this.tokenizer.pad(rows)
      : { inputIds: rows, attentionMask: rows.map((row) => row.map(() => 1)) };
    return {
      ...batch,
      mmTokenTypeIds: batch.inputIds.map((row) => tokenTypes(row, this.#ids)),
      ...(ofImages && { pixelValues: ofImages.pixelValues, imageGridThw: [...ofImages.gridThw] }),
      ...(ofVideos && { pixelValuesVideos: ofVideos.pixelValues, videoGridThw: [...ofVideos.gridThw] }),
      ...(ofVideos?.secondsPerGrid && { videoSecondPerGrid: [...ofVideos.secondsPerGrid] }),
      ...ofSounds,
    };
  }

  async #encodeAll(
    texts: readonly string[],
    addSpecialTokens: boolean,
    signal: AbortSignal | undefined,
  ): Promise<number[][]> {
    const rows: number[][] = [];
    for (const text of texts)
      rows.push(
        (await this.tokenizer.encodeAsync?.(text, { addSpecialTokens, ...(signal && { signal }) })) ??
          this.tokenizer.encode(text, { addSpecialTokens }),
      );
    return rows;
  }

  /**
   * Lays out a conversation with the checkpoint's chat template and prepares it with its pictures (one row); with
   * `tokenize: false` returns the text. See `collectMedia` for the parts that carry pictures.
   *
   * @throws InputError when parts and pictures do not match up, a picture cannot be used, or a text holds a placeholder
   * @throws TokenizerError when there is no template, or it fails on or refuses the conversation
   */
  applyChatTemplate(
    messages: readonly ProcessorMessage[],
    options: ProcessorChatOptions & { tokenize: false },
  ): string;
  applyChatTemplate(
    messages: readonly ProcessorMessage[],
    options?: ProcessorChatOptions & { tokenize?: true | undefined },
  ): Promise<ProcessorOutput>;
  applyChatTemplate(
    messages: readonly ProcessorMessage[],
    options: ProcessorChatOptions = {},
  ): string | Promise<ProcessorOutput> {
    checkOpenOptions(options, CHAT_OPTIONS, 'applyChatTemplate');
    const { images, videos, audio, limits, signal, tokenize = true, ...others } = options;
    const { minPixels, maxPixels, size, ...rest } = others;
    if (!tokenize) {
      return this.tokenizer.applyChatTemplate(withoutMedia(messages, this.#hears), {
        ...rest,
        tokenize: false,
      });
    }
    return abortable(signal, 'applyChatTemplate', () => this.#processChat(messages, options, rest));
  }

  async #processChat(
    messages: readonly ProcessorMessage[],
    options: ProcessorChatOptions,
    templateOptions: Record<string, unknown>,
  ): Promise<ProcessorOutput> {
    const media = collectMedia(messages, {
      images: gather(options.images, 'images', 1).all,
      videos: gather(options.videos, 'videos', 1).all,
      sounds: gather(options.audio, 'audio', 1).all,
      hears: this.#hears,
    });
    const told = withoutMedia(messages, this.#hears);
    refuseTyped({ messages: told, ...templateOptions });
    const text = this.tokenizer.applyChatTemplate(told, {
      ...templateOptions,
      tokenize: false,
    });
    const { limits, signal, minPixels, maxPixels, size } = options;
    const inputs = {
      ...{ text, images: media.images, videos: media.videos, audio: media.sounds, addSpecialTokens: false },
      ...{ signal, minPixels, maxPixels, size, ...(limits && { limits }) },
    };
    return this.#process(inputs, { images: media.imageBounds, videos: media.videoBounds });
  }

  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string {
    return this.tokenizer.decode(ids, options);
  }

  batchDecode(rows: readonly (readonly number[])[], options?: { skipSpecialTokens?: boolean }): string[] {
    return this.tokenizer.batchDecode(rows, options);
  }
}

/**
 * The processor of a repo.
 *
 * @param bounds in place of those of the repo
 * @param media of the model that is to see, which the settings have to fit; undefined where it is not known
 * @throws ConfigError naming file, field and value
 * @throws HubError where the repo has no image settings
 * @throws TokenizerError when the tokenizer lacks the placeholder tokens, or has them under other ids
 */
export async function loadProcessor<T extends ProcessorTokenizer>(
  repo: Repo,
  tokenizer: T,
  bounds: PixelBounds = {},
  media?: MediaPart,
): Promise<Processor<T>> {
  const { image, video, sound } = await readProcessorConfig(repo, media);
  const where = 'AutoProcessor.fromPretrained';
  const config = {
    image: withBounds(image, bounds, where),
    video: withBounds(video, bounds, where),
    ...(sound && { sound }),
  };
  return new Processor(tokenizer, config, media);
}

/** Settings of the single pictures or videos that have bounds of their own. */
function eachConfig<C extends ImageConfig>(
  config: C,
  parts: readonly (PartBounds | undefined)[] = [],
): (C | undefined)[] {
  return parts.map((part) => part && withBounds(config, part.bounds, part.where));
}

function checkTexts(text: unknown): readonly string[] {
  const texts = Array.isArray(text) ? text : [text];
  const faulty = texts.findIndex((one) => typeof one !== 'string');
  if (texts.length === 0 || faulty >= 0) {
    throw new InputError(
      expected('text', texts.length === 0 ? text : texts[faulty], 'a text or a list of texts'),
    );
  }
  return texts;
}

interface Given<V> extends MediaCount {
  readonly all: readonly V[];
}

/**
 * What was given of a kind, in the order of its placeholders.
 * @throws InputError for lists that are not one for each text
 */
function gather<V>(value: OneOrMore<V>, name: string, texts: number): Given<V> {
  if (value === undefined || value === null) return { all: [], total: 0 };
  const list = (Array.isArray(value) ? value : [value]) as readonly (V | readonly V[])[];
  const lists = list.filter((item): item is readonly V[] => Array.isArray(item));
  if (lists.length === 0) return { all: list as readonly V[], total: list.length };
  if (lists.length < list.length)
    throw new InputError(
      `${name} holds lists and single entries; give either one list in the order of the texts, or a list for each text`,
    );
  if (lists.length !== texts)
    throw new InputError(
      `${name} has ${lists.length} ${lists.length === 1 ? 'list' : 'lists'} for ${texts} ${texts === 1 ? 'text' : 'texts'}; give a list for ` +
        'each text, empty where it has none, or one list in the order of the texts',
    );
  const all = lists.flat() as V[];
  return { all, total: all.length, byText: lists.map(({ length }) => length) };
}

function tokenId(tokenizer: ProcessorTokenizer, token: string, wanted: number | undefined): number {
  const id = tokenizer.tokenToId(token);
  if (id !== undefined && (wanted === undefined || id === wanted)) return id;
  if (id !== undefined)
    throw new TokenizerError(
      `the tokenizer has ${token} as token ${id}, but config.json says ${wanted}: take the tokenizer and the config.json of one repo`,
    );
  throw new TokenizerError(
    `the tokenizer has no token ${token}, so it cannot mark where pictures go: this is not the tokenizer of an ` +
      'image-text model',
  );
}
