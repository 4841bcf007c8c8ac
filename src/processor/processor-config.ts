import * as z from 'zod';
import { ConfigError, expected, issuesText } from '../errors.ts';
import type { Repo } from '../hub/types.ts';
import { readJsonFile } from '../json.ts';
import type { SoundConfig } from '../media/types.ts';
import type { MediaPart } from '../models/architecture.ts';
import type { PatchRule } from './patches.ts';
import { soundConfig, WHISPER } from './sound-config.ts';

const PILLOW_BICUBIC = 3;
const OPENAI_MEAN = [0.48145466, 0.4578275, 0.40821073];
const OPENAI_STD = [0.26862954, 0.26130258, 0.27577711];
const HALF = [0.5, 0.5, 0.5];

/** Settings of an image processor after defaults. */
export interface ImageConfig extends PatchRule {
  /** Bounds on the pixels after resizing, or undefined where the config switches resizing off. */
  readonly bounds: { readonly minPixels: number; readonly maxPixels: number } | undefined;
}

/** Settings of a video processor after defaults; `bounds` are on the pixels of all frames together, or of each where it is a whole clip. */
export interface VideoConfig extends ImageConfig {
  /**
   * Whether a video is one run of placeholders, and its frames' times are told apart from the prompt, as seconds from pair to pair (HF
   * `Qwen3OmniMoeProcessor`); otherwise pieces of it stand behind their times in words (HF `Qwen3VLProcessor`).
   */
  readonly wholeClip: boolean;
  /** Most tokens one frame may cost, where the config caps frames one by one. */
  readonly maxFrameTokens: number | undefined;
}

export interface ProcessorConfig {
  readonly image: ImageConfig;
  readonly video: VideoConfig;
  /** Of a model that hears. */
  readonly sound?: SoundConfig;
}

/** Largest count of pixels, or of anything else, that settings may name. */
export const MOST_PIXELS = 2 ** 31 - 1;
/** Most pixels that a picture may be enlarged to: keeps a setting from filling the memory. */
export const MOST_MIN_PIXELS = 2 ** 24;
/** Side in pixels of what becomes one token, which every picture is enlarged to. Real ones have 28 or 32. */
const MOST_FACTOR = 512;
const positiveInt = z.int().positive().max(MOST_PIXELS);
const leastPixels = positiveInt.max(MOST_MIN_PIXELS);
const perChannel = z.union([z.number(), z.array(z.number()).length(3)]);
const deviation = z.union([z.number().positive(), z.array(z.number().positive()).length(3)]);
const edges = z.looseObject({
  shortest_edge: leastPixels.optional(),
  longest_edge: positiveInt.optional(),
  min_pixels: leastPixels.optional(),
  max_pixels: positiveInt.optional(),
});

const schema = z.looseObject({
  do_resize: z.boolean().default(true),
  do_rescale: z.boolean().default(true),
  do_normalize: z.boolean().default(true),
  rescale_factor: z
    .number()
    .positive()
    .default(1 / 255),
  resample: z.literal(PILLOW_BICUBIC, 'only 3 (bicubic) is supported').default(PILLOW_BICUBIC),
  image_mean: perChannel.optional(),
  image_std: deviation.optional(),
  size: edges.default({}),
  min_pixels: leastPixels.optional(),
  max_pixels: positiveInt.optional(),
  patch_size: positiveInt.max(MOST_FACTOR).optional(),
  temporal_patch_size: positiveInt.max(16).default(2),
  merge_size: positiveInt.max(64).default(2),
  cap_pixels_per_frame: z.boolean().default(false),
  max_video_tokens: positiveInt.default(768),
});
type Settings = z.output<typeof schema>;

/** Class defaults, where they differ between HF `Qwen2VLImageProcessor` and `Qwen3VLVideoProcessor`. */
interface Defaults {
  readonly patchSize: number;
  readonly minPixels: number;
  readonly maxPixels: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

const IMAGE_DEFAULTS: Defaults = {
  patchSize: 14,
  minPixels: 56 * 56,
  maxPixels: 28 * 28 * 1280,
  mean: OPENAI_MEAN,
  std: OPENAI_STD,
};
const VIDEO_DEFAULTS: Defaults = {
  patchSize: 16,
  minPixels: 128 * 32 * 32,
  maxPixels: 768 * 32 * 32,
  mean: HALF,
  std: HALF,
};

/**
 * Reads the image and video settings of a repo: `processor_config.json` (fields `image_processor` and
 * `video_processor`) first, then `preprocessor_config.json` and `video_preprocessor_config.json`; videos fall back to
 * the image settings.
 *
 * @param media of the model that is to see, where it is known
 * @throws ConfigError naming file, field and value, also where they cut pictures in another way than the model expects
 * @throws HubError where the repo has no image settings
 */
export async function readProcessorConfig(repo: Repo, media?: MediaPart): Promise<ProcessorConfig> {
  const nested = await readObject(await repo.file('processor_config.json'), 'processor_config.json');
  const section = (name: 'image_processor' | 'video_processor' | 'feature_extractor'): Source | undefined => {
    const value = nested?.value[name];
    if (value === undefined || value === null) return undefined;
    return {
      value: asObject(value, 'processor_config.json', name),
      file: 'processor_config.json',
      path: name,
    };
  };
  const imageFile = 'preprocessor_config.json';
  const videoFile = 'video_preprocessor_config.json';
  const image = section('image_processor') ?? (await readObject(await repo.require(imageFile), imageFile));
  const video =
    section('video_processor') ?? (await readObject(await repo.file(videoFile), videoFile)) ?? image;
  const sound = section('feature_extractor') ?? (await readObject(await repo.file(imageFile), imageFile));
  const hears = sound?.value.feature_extractor_type === WHISPER && (!media || media.sound !== undefined);
  // Of models that are not known, those that hear take clips.
  const clips = media ? media.timedVideos === true : hears;
  const config = {
    image: imageConfig(image as Source),
    video: clips ? clipConfig(video as Source) : videoConfig(video as Source),
    ...(hears && { sound: soundConfig(sound) }),
  };
  if (media) {
    assertFits(config.image, image as Source, media);
    assertFits(config.video, video as Source, media);
    if (config.sound && sound) assertBands(config.sound, sound, media);
  }
  return config;
}

/** What the settings say, by the field of config.json that says the same of the model. */
const CUTS = [
  ['patchSize', 'patch_size', 'patch_size'],
  ['temporalPatchSize', 'temporal_patch_size', 'temporal_patch_size'],
  ['mergeSize', 'merge_size', 'spatial_merge_size'],
] as const;

/** @throws ConfigError where pictures are cut in another way than the model expects */
function assertFits(config: ImageConfig, source: Source, media: MediaPart): void {
  for (const [name, field, inModel] of CUTS)
    if (config[name] !== media[name])
      throw unfit(source, field, config[name], `${media[name]}, as vision_config.${inModel} of config.json`);
}

/** @throws ConfigError where spectrograms have other bands than the model expects */
function assertBands({ bands }: SoundConfig, source: Source, { sound }: MediaPart): void {
  if (sound && bands !== sound.bands)
    throw unfit(source, 'feature_size', bands, `${sound.bands}, as audio_config.num_mel_bins of config.json`);
}

function unfit(source: Source, field: string, value: number, wanted: string): ConfigError {
  const isDefault = (source.value[field] ?? undefined) === undefined;
  const what = `${source.file}: ${fieldName(source, [field])}${isDefault ? ', which it leaves to its default,' : ''}`;
  return new ConfigError(
    `${expected(what, value, wanted)}. One of the files is of another model: take both from one repo`,
  );
}

/** Settings as found: a whole file, or the field `path` of one. */
interface Source {
  readonly value: Record<string, unknown>;
  readonly file: string;
  readonly path?: string;
}

async function readObject(path: string | undefined, file: string): Promise<Source | undefined> {
  if (path === undefined) return undefined;
  return { value: asObject(await readJsonFile(path, file), file), file };
}

function asObject(value: unknown, file: string, field?: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new ConfigError(expected(`${file}: ${field ?? 'the file'}`, value, 'an object of settings'));
}

/** @throws ConfigError naming file, field and value */
function imageConfig(source: Source): ImageConfig {
  return common(parse(source), IMAGE_DEFAULTS, source);
}

/** @throws ConfigError naming file, field and value */
function videoConfig(source: Source): VideoConfig {
  const settings = parse(source);
  const maxFrameTokens = settings.cap_pixels_per_frame ? settings.max_video_tokens : undefined;
  return { ...common(settings, VIDEO_DEFAULTS, source), maxFrameTokens, wholeClip: false };
}

/**
 * Settings of HF `Qwen2VLVideoProcessor` as `Qwen3OmniMoeProcessor` calls it: with bounds of its own, whatever the repo says.
 * @throws ConfigError naming file, field and value
 */
function clipConfig(source: Source): VideoConfig {
  const { minPixels, maxPixels } = VIDEO_DEFAULTS;
  const { bounds, ...settings } = common(parse(source), IMAGE_DEFAULTS, source);
  return {
    ...settings,
    bounds: bounds && { minPixels, maxPixels },
    maxFrameTokens: undefined,
    wholeClip: true,
  };
}

function common(settings: Settings, defaults: Defaults, source: Source): ImageConfig {
  const { size } = settings;
  const minPixels = settings.min_pixels ?? size.shortest_edge ?? size.min_pixels ?? defaults.minPixels;
  const maxPixels = settings.max_pixels ?? size.longest_edge ?? size.max_pixels ?? defaults.maxPixels;
  if (minPixels > maxPixels) {
    throw new ConfigError(
      `${source.file}: ${fieldName(source, ['size'])} asks for at least ${minPixels} and at most ${maxPixels} pixels`,
    );
  }
  const patchSize = settings.patch_size ?? defaults.patchSize;
  const { merge_size: mergeSize } = settings;
  if (patchSize * mergeSize > MOST_FACTOR)
    throw new ConfigError(
      expected(
        `${source.file}: ${fieldName(source, ['merge_size'])}`,
        mergeSize,
        `at most ${Math.floor(MOST_FACTOR / patchSize)} patches of ${patchSize} pixels`,
      ),
    );
  const each = (value: number | readonly number[]) =>
    typeof value === 'number' ? [value, value, value] : value;
  return {
    bounds: settings.do_resize ? { minPixels, maxPixels } : undefined,
    patchSize,
    temporalPatchSize: settings.temporal_patch_size,
    mergeSize,
    rescaleFactor: settings.do_rescale ? settings.rescale_factor : undefined,
    normalize: settings.do_normalize
      ? { mean: each(settings.image_mean ?? defaults.mean), std: each(settings.image_std ?? defaults.std) }
      : undefined,
  };
}

function parse(source: Source): Settings {
  // null stands for "the default" in these files.
  const given = Object.fromEntries(Object.entries(source.value).filter(([, value]) => value !== null));
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  throw new ConfigError(`${source.file}: ${issuesText(result.error.issues, given, source.path)}`);
}

function fieldName(source: Source, path: readonly string[]): string {
  return [...(source.path ? [source.path] : []), ...path].join('.');
}
