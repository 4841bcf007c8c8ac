/** Interleaved 8-bit RGB, row by row: `data.length = width · height · 3`. */
export interface RgbImage {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** Decoded pixels as the caller has them: 8 bits a channel, interleaved, row by row. */
export interface RawPixels {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
  /** 1 = gray, 3 = RGB, 4 = RGBA (alpha is dropped). */
  readonly channels: number;
}

/**
 * A picture: a path, a `http:`, `https:`, `file:` or `data:` URL, the bytes of an encoded file (a Node `Buffer` is
 * one), or raw pixels.
 */
export type ImageInput = string | URL | Uint8Array | RawPixels;

/** A video as the frames that were sampled from it, oldest first, and when they were taken. */
export interface VideoInput {
  readonly frames: readonly ImageInput[];
  /** Frames per second of `frames` (not of the film they come from). Give this or `timestamps`. */
  readonly fps?: number;
  /** Seconds from the start of the film, one a frame, not descending. */
  readonly timestamps?: readonly number[];
}

/** A sound as the caller has it. */
export interface RawSound {
  /** One channel, from −1 to 1. */
  readonly samples: Float32Array;
  /** Samples a second. */
  readonly samplingRate: number;
}

/** A sound: a path, a `http:`, `https:`, `file:` or `data:` URL, the bytes of a WAV file, or samples. */
export type SoundInput = string | URL | Uint8Array | RawSound;

/** How sound becomes a spectrogram: fields of HF `WhisperFeatureExtractor`. */
export interface SoundConfig {
  /** Bands, from 0 to 8000 Hz. */
  readonly bands: number;
  /** Samples of one transform. */
  readonly window: number;
  /** Samples from frame to frame. */
  readonly hop: number;
  /** Samples a second. */
  readonly samplingRate: number;
}

/** Spectrograms as a model that hears takes them: fp32 [sounds, bands, frames], shorter ones filled up. */
export interface SoundValues {
  readonly data: Float32Array;
  readonly dims: readonly [sounds: number, bands: number, frames: number];
}

/** A spectrogram, fp32 [bands, frames]. */
export interface SoundFeatures {
  readonly data: Float32Array;
  readonly dims: readonly [bands: number, frames: number];
}

/** Patches of one image or video along time, height and width (`image_grid_thw` of transformers). */
export type Grid = readonly [time: number, height: number, width: number];

/** Pixels as a vision tower takes them, fp32 [patches, values of a patch]. */
export interface PixelValues {
  readonly data: Float32Array;
  readonly dims: readonly [patches: number, values: number];
}

/** Bounds on what a caller may hand in, against files that decompress to more than the machine holds. */
export interface ImageLimits {
  /** Pixels (width × height) of one picture. */
  readonly maxPixels: number;
  /** Bytes of one encoded file. */
  readonly maxBytes: number;
  /** Seconds of one sound. */
  readonly maxSeconds: number;
}

export interface LoadOptions {
  readonly limits?: Partial<ImageLimits>;
  readonly signal?: AbortSignal | undefined;
}

export interface Size {
  readonly height: number;
  readonly width: number;
}
