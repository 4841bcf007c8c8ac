import type { Prompt, VisualFeatures } from '../engine/sequence.ts';
import type { SoundRuntime } from '../engine/sound-runner.ts';
import { sees, type VisionRuntime } from '../engine/vision-runner.ts';
import { abortable, InputError } from '../errors.ts';
import type { Prompts } from '../generation/prompt.ts';
import type { Grid, PixelValues, SoundValues } from '../media/types.ts';
import { type MediaGrids, type MediaPart, TOKEN_TYPES } from '../models/architecture.ts';
import {
  checkGrids,
  checkPixels,
  checkSeconds,
  checkSounds,
  checkTokenTypes,
  remedyFor,
} from './check-media.ts';
import { checkForward, type ForwardInputs, LOGITS_OPTIONS } from './forward.ts';
import type { CausalLMGenerateOptions } from './generate-options.ts';
import { type CausalLMOutput, GenerativeModel } from './generative-model.ts';
import type { ModelParts } from './model-parts.ts';

/** Pictures, clips and sounds beside the token ids, as a `Processor` returns them. */
export interface VisualInputs {
  /** Patches of all images, in the order of their placeholders, row after row of the batch. */
  pixelValues?: PixelValues;
  /** Patches of each image: time, height, width. */
  imageGridThw?: readonly Grid[];
  pixelValuesVideos?: PixelValues;
  videoGridThw?: readonly Grid[];
  /** Seconds from one pair of frames to the next, of each video; of a model whose positions say when frames were taken. */
  videoSecondPerGrid?: readonly number[];
  /** Spectrograms of all sounds, in the order of their placeholders, shorter ones filled up; of a model that hears. */
  inputFeatures?: SoundValues;
  /** [sounds, frames]; 1 for a frame, 0 for what fills up. */
  featureAttentionMask?: readonly (readonly number[])[];
  /**
   * 0 = text, 1 = image, 2 = video, 3 = sound; [rows, tokens]. Default: read off the placeholder ids. A placeholder with a 0 is a token like
   * any other, as one that a model has said.
   */
  mmTokenTypeIds?: readonly (readonly number[])[];
}

const VISUAL_OPTIONS = [
  'pixelValues',
  'imageGridThw',
  'pixelValuesVideos',
  'videoGridThw',
  'videoSecondPerGrid',
  'inputFeatures',
  'featureAttentionMask',
  'mmTokenTypeIds',
] as const satisfies readonly (keyof VisualInputs)[];

export type ImageTextForwardInputs = Omit<ForwardInputs, 'cache'> & VisualInputs;
export interface ImageTextGenerateOptions extends CausalLMGenerateOptions, VisualInputs {}

/** Features of one modality, handed out in the order of the placeholders. */
interface FeatureStream {
  readonly features: VisualFeatures;
  next: number;
}

/** A decoder that sees. Counterpart of HF `Qwen3VLMoeForConditionalGeneration`. */
export class ImageTextToText extends GenerativeModel<ImageTextGenerateOptions> {
  readonly #vision: VisionRuntime;
  readonly #hearing: SoundRuntime | undefined;
  readonly #media: MediaPart;

  constructor(parts: ModelParts) {
    super(parts);
    const { model, vision, hearing } = parts;
    if (!vision || !sees(model)) throw new Error('an image-text model was opened without its vision tower');
    this.#vision = vision;
    this.#hearing = hearing;
    this.#media = model.media;
  }

  /**
   * Logits of a batch of prompts with their pictures, in one pass.
   * @throws InputError for inputs out of range, and where placeholders and pictures do not agree; AbortError
   */
  async forward(inputs: ImageTextForwardInputs, ...rest: never[]): Promise<CausalLMOutput> {
    checkForward(inputs, rest, [...LOGITS_OPTIONS, ...VISUAL_OPTIONS]);
    // Before the tower runs: a backend that does not exist should not cost a picture.
    const experts = await this.backendReader(inputs.expertsImplementation, inputs.signal);
    return abortable(inputs.signal, 'forward', async () => {
      const prompts = this.prompts(inputs.inputIds, inputs.attentionMask);
      return this.logits(await this.#prepare(prompts, inputs), inputs, experts);
    });
  }

  protected override get inputOptions(): readonly string[] {
    return VISUAL_OPTIONS;
  }

  /** Pictures pass through the vision tower once, before the first token. */
  protected override async prepare(inputs: ImageTextGenerateOptions): Promise<Prompts> {
    const prompts = this.prompts(inputs.inputIds, inputs.attentionMask);
    return { given: prompts.given, rows: await this.#prepare(prompts, inputs) };
  }

  /** Prompts with their rotary positions, and with features in place of placeholders. */
  async #prepare(
    prompts: Prompts,
    inputs: VisualInputs & { signal?: AbortSignal | undefined },
  ): Promise<Prompt[]> {
    const { signal } = inputs;
    const types = checkTokenTypes(inputs.mmTokenTypeIds, prompts, this.#media);
    this.#checkCounts(types, inputs);
    this.#checkSeconds(inputs);
    const frames = this.#soundFrames(types, inputs);
    const images = await this.#stream(inputs.pixelValues, inputs.imageGridThw, signal);
    const videos = await this.#stream(inputs.pixelValuesVideos, inputs.videoGridThw, signal);
    const sounds = await this.#soundStream(inputs.inputFeatures, frames, signal);
    const streams = [undefined, images, videos, sounds];
    let imageGrids = inputs.imageGridThw ?? [];
    let videoGrids = inputs.videoGridThw ?? [];
    let seconds = inputs.videoSecondPerGrid ?? [];
    return prompts.rows.map((prompt, row) => {
      const rowTypes = types[row] as readonly number[];
      const own = {
        images: takeGrids(imageGrids, countOf(rowTypes, TOKEN_TYPES.image), this.#media),
        videos: takeGrids(videoGrids, countOf(rowTypes, TOKEN_TYPES.video), this.#media),
        secondsPerGrid: seconds,
      };
      imageGrids = imageGrids.slice(own.images.length);
      videoGrids = videoGrids.slice(own.videos.length);
      seconds = seconds.slice(own.videos.length);
      return { ...prompt, ...this.#positions(rowTypes, own), ...this.#visual(rowTypes, streams) };
    });
  }

  #positions(types: readonly number[], grids: MediaGrids) {
    const { positions, delta } = this.#media.positions(types, grids);
    return { positions, positionDelta: delta };
  }

  /** @param streams by the kind of tokens that they are for */
  #visual(types: readonly number[], streams: readonly (FeatureStream | undefined)[]): Pick<Prompt, 'visual'> {
    const places = [...types.keys()].filter((place) => types[place] !== TOKEN_TYPES.text);
    if (places.length === 0) return {};
    const hidden = this.parts.model.hiddenSize;
    const layers = { length: this.#media.deepstackLayers };
    const embeds = new Float32Array(places.length * hidden);
    const deepstack = Array.from(layers, () => new Float32Array(places.length * hidden));
    for (const [i, place] of places.entries()) {
      const stream = streams[types[place] as number] as FeatureStream;
      const row = (from: Float32Array) => from.subarray(stream.next * hidden, (stream.next + 1) * hidden);
      embeds.set(row(stream.features.embeds), i * hidden);
      // Sounds have none.
      for (const [layer, features] of stream.features.deepstack.entries())
        deepstack[layer]?.set(row(features), i * hidden);
      stream.next++;
    }
    return { visual: { places, features: { embeds, deepstack } } };
  }

  async #stream(pixels?: PixelValues, grids?: readonly Grid[], signal?: AbortSignal): Promise<FeatureStream> {
    if (!pixels || !grids) return { features: { embeds: new Float32Array(), deepstack: [] }, next: 0 };
    return { features: await this.#vision.features(pixels.data, grids, signal), next: 0 };
  }

  async #soundStream(
    values: SoundValues | undefined,
    frames: readonly number[],
    signal?: AbortSignal,
  ): Promise<FeatureStream> {
    const embeds = values ? await this.#hearing?.features(values, frames, signal) : undefined;
    return { features: { embeds: embeds ?? new Float32Array(), deepstack: [] }, next: 0 };
  }

  /** Frames of each sound, where placeholders and spectrograms tell the same story. */
  #soundFrames(types: readonly (readonly number[])[], inputs: VisualInputs): number[] {
    const { inputFeatures: features, featureAttentionMask: mask } = inputs;
    const { sound } = this.#media;
    if (isGiven(features) && !sound)
      throw new InputError(`${this.nameOrPath} does not hear: leave inputFeatures out`);
    if (isGiven(features) !== isGiven(mask))
      throw new InputError(
        'inputFeatures and featureAttentionMask come together: give both, as the processor returns them',
      );
    const frames = isGiven(features) && sound ? checkSounds(features, mask, sound.bands) : [];
    const placeholders = types.reduce((sum, row) => sum + countOf(row, TOKEN_TYPES.audio), 0);
    const tokens = frames.reduce((sum, count) => sum + (sound?.tokensOf(count) ?? 0), 0);
    if (placeholders !== tokens)
      throw new InputError(
        `${countOfPlaceholders('audio', placeholders)}, but inputFeatures stand for ${tokens}; ${remedyFor('sound', placeholders, tokens)}`,
      );
    return frames;
  }

  #checkSeconds({ videoSecondPerGrid: seconds, videoGridThw: grids }: VisualInputs): void {
    if (!isGiven(seconds)) return;
    if (!this.#media.timedVideos)
      throw new InputError(
        `${this.nameOrPath} reads in its prompt when frames were taken: leave videoSecondPerGrid out`,
      );
    checkSeconds(seconds, grids?.length ?? 0);
  }

  /** Placeholders, grids and pixels must tell the same story before anything is computed. */
  #checkCounts(types: readonly (readonly number[])[], inputs: VisualInputs): void {
    const streams = [
      ['image', TOKEN_TYPES.image, inputs.pixelValues, inputs.imageGridThw, 'pixelValues', 'imageGridThw'],
      [
        'video',
        TOKEN_TYPES.video,
        inputs.pixelValuesVideos,
        inputs.videoGridThw,
        'pixelValuesVideos',
        'videoGridThw',
      ],
    ] as const;
    for (const [what, type, pixels, grids, pixelsName, gridsName] of streams) {
      if (isGiven(pixels) !== isGiven(grids))
        throw new InputError(
          `${pixelsName} and ${gridsName} come together: give both, as the processor returns them`,
        );
      if (isGiven(grids)) checkGrids(grids, gridsName, this.#media.mergeSize);
      if (isGiven(pixels)) checkPixels(pixels, pixelsName, this.#media.patchValues);
      const placeholders = types.reduce((sum, row) => sum + countOf(row, type), 0);
      const tokens = (grids ?? []).reduce((sum, grid) => sum + this.#media.tokensOf(grid), 0);
      if (placeholders !== tokens)
        throw new InputError(
          `${countOfPlaceholders(what, placeholders)}, but ${gridsName} stands for ${tokens}; ${remedyFor(what, placeholders, tokens)}`,
        );
      const patches = (grids ?? []).reduce((sum, [t, h, w]) => sum + t * h * w, 0);
      if (pixels && pixels.dims[0] !== patches)
        throw new InputError(
          `${pixelsName} has ${pixels.dims[0]} patches, but ${gridsName} stands for ${patches}`,
        );
    }
  }
}

/** Also null is nothing. */
function isGiven(value: unknown): boolean {
  return (value ?? undefined) !== undefined;
}

function countOfPlaceholders(kind: string, count: number): string {
  return `inputIds hold ${count} ${kind} ${count === 1 ? 'placeholder' : 'placeholders'}`;
}

function countOf(types: readonly number[], type: number): number {
  return types.reduce((count, value) => count + (value === type ? 1 : 0), 0);
}

/** The leading grids that stand for `tokens` placeholders. */
function takeGrids(grids: readonly Grid[], tokens: number, media: MediaPart): readonly Grid[] {
  let taken = 0;
  for (let left = tokens; left > 0 && taken < grids.length; taken++)
    left -= media.tokensOf(grids[taken] as Grid);
  return grids.slice(0, taken);
}
