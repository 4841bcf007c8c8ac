import type { Pacer } from '../media/pacer.ts';
import type { Grid, RgbImage } from '../media/types.ts';

const CHANNELS = 3;

/** How a picture is cut and scaled; fields of `preprocessor_config.json`. */
export interface PatchRule {
  /** Side of a patch in pixels. */
  readonly patchSize: number;
  /** Frames a patch spans. */
  readonly temporalPatchSize: number;
  /** Patches a side of the block that later becomes one token. */
  readonly mergeSize: number;
  /** What a byte is multiplied by, or undefined to leave 0…255. */
  readonly rescaleFactor: number | undefined;
  /** Per channel mean and standard deviation after rescaling, or undefined not to normalise. */
  readonly normalize: { readonly mean: readonly number[]; readonly std: readonly number[] } | undefined;
}

/** Floats in one patch: channels × frames × height × width. */
export function patchLength({ patchSize, temporalPatchSize }: PatchRule): number {
  return CHANNELS * temporalPatchSize * patchSize * patchSize;
}

/** The grid of `frames` pictures of this size; their number is rounded up to whole temporal patches. */
export function patchGrid(frames: number, height: number, width: number, rule: PatchRule): Grid {
  return [Math.ceil(frames / rule.temporalPatchSize), height / rule.patchSize, width / rule.patchSize];
}

/**
 * Writes frames as rows of pixel values, `[t · gh · gw, channels · temporal · patch · patch]`: patches in the order
 * (time, block row, block column, row in block, column in block), where a block is `mergeSize` patches square. Missing
 * frames repeat the last one, so a still picture fills its temporal patch with itself
 * (HF `Qwen2VLImageProcessor.patchify`, `Qwen3VLVideoProcessor.patchify`).
 *
 * @param target receives t · gh · gw · `patchLength` floats from `offset` on
 */
export async function writePatches(
  target: Float32Array,
  offset: number,
  frames: readonly RgbImage[],
  rule: PatchRule,
  pacer: Pacer,
): Promise<void> {
  const { width, height } = frames[0] as RgbImage;
  const [gridT, gridH, gridW] = patchGrid(frames.length, height, width, rule);
  const scale = channelScales(rule);
  const length = patchLength(rule);
  const m = rule.mergeSize;
  let at = offset;
  for (let t = 0; t < gridT; t++) {
    for (let blockRow = 0; blockRow < gridH; blockRow += m) {
      for (let blockColumn = 0; blockColumn < gridW; blockColumn += m) {
        for (let inBlock = 0; inBlock < m * m; inBlock++, at += length) {
          const row = blockRow + Math.floor(inBlock / m);
          const column = blockColumn + (inBlock % m);
          writePatch(target, at, frames, t, row, column, rule, scale);
        }
      }
      await pacer.turn();
    }
  }
}

function writePatch(
  target: Float32Array,
  offset: number,
  frames: readonly RgbImage[],
  t: number,
  row: number,
  column: number,
  { patchSize, temporalPatchSize }: PatchRule,
  scale: readonly Float32Array[],
): void {
  let to = offset;
  for (let channel = 0; channel < CHANNELS; channel++) {
    const values = scale[channel] as Float32Array;
    for (let k = 0; k < temporalPatchSize; k++) {
      const frame = frames[Math.min(t * temporalPatchSize + k, frames.length - 1)] as RgbImage;
      for (let y = 0; y < patchSize; y++) {
        let from = ((row * patchSize + y) * frame.width + column * patchSize) * CHANNELS + channel;
        for (let x = 0; x < patchSize; x++, from += CHANNELS) {
          target[to++] = values[frame.data[from] as number] as number;
        }
      }
    }
  }
}

/** Per channel the float of each byte. Rescaling is folded into mean and deviation in fp32, as transformers does. */
function channelScales({ rescaleFactor, normalize }: PatchRule): Float32Array[] {
  return Array.from({ length: CHANNELS }, (_, channel) => {
    const bytes = Float32Array.from({ length: 256 }, (_, byte) => byte);
    if (!normalize) return bytes.map((byte) => byte * (rescaleFactor ?? 1));
    const unit = 1 / (rescaleFactor ?? 1);
    const mean = Math.fround(Math.fround(normalize.mean[channel] as number) * Math.fround(unit));
    const std = Math.fround(Math.fround(normalize.std[channel] as number) * Math.fround(unit));
    return bytes.map((byte) => Math.fround(byte - mean) / std);
  });
}
