import { InputError } from '../../errors.ts';
import type { Grid } from '../../media/types.ts';
import { TOKEN_TYPES } from '../architecture.ts';

const { text: TEXT_TOKEN, image: IMAGE_TOKEN, video: VIDEO_TOKEN } = TOKEN_TYPES;

export interface MropeInputs {
  /** 0 = text, 1 = image, 2 = video; `[batch][sequence]`. */
  readonly mmTokenTypeIds: readonly (readonly number[])[];
  /** 1 = token, 0 = padding; default all ones. */
  readonly attentionMask?: readonly (readonly number[])[] | undefined;
  /** In the order in which the pictures appear, row after row of the batch. */
  readonly imageGridThw?: readonly Grid[] | undefined;
  readonly videoGridThw?: readonly Grid[] | undefined;
  /** Patches a side of the block that makes one token. */
  readonly spatialMergeSize: number;
}

export interface MropePositions {
  /** Time, height and width position of every token, `dims` = [3, batch, sequence]; 0 at padding. */
  readonly positionIds: Int32Array;
  readonly dims: readonly [number, number, number];
  /**
   * Per row, what to add to a token's place (counted from the first real token) to get its position on all three axes
   * once the prompt is over: largest position + 1 − tokens. Zero or negative.
   */
  readonly ropeDeltas: readonly number[];
}

/**
 * Positions for the multimodal rotary embedding. Text counts up on all axes. A picture keeps its start on the time
 * axis and spans its merged grid on the other two; what follows starts after its longer side. Each temporal patch of a
 * video counts as a picture of its own (HF `Qwen3VLMoeModel.get_rope_index`).
 *
 * @throws InputError where token types and grids do not fit together
 */
export function mropePositions(inputs: MropeInputs): MropePositions {
  const { mmTokenTypeIds, attentionMask, spatialMergeSize } = inputs;
  const batch = mmTokenTypeIds.length;
  const sequence = mmTokenTypeIds[0]?.length ?? 0;
  const plane = batch * sequence;
  const positionIds = new Int32Array(3 * plane);
  const grids = new GridQueue(inputs.imageGridThw ?? [], inputs.videoGridThw ?? []);
  const ropeDeltas = mmTokenTypeIds.map((types, row) => {
    if (types.length !== sequence) {
      throw new InputError(
        `row ${row} has ${types.length} token types, row 0 has ${sequence}: pad them to one length`,
      );
    }
    const places = realPlaces(attentionMask?.[row], sequence, row);
    const write = (place: number, t: number, h: number, w: number) => {
      const at = row * sequence + place;
      positionIds[at] = t;
      positionIds[plane + at] = h;
      positionIds[2 * plane + at] = w;
    };
    return placeRow(types, places, grids, spatialMergeSize, row, write);
  });
  grids.expectEmpty();
  return { positionIds, dims: [3, batch, sequence], ropeDeltas };
}

type Write = (place: number, t: number, h: number, w: number) => void;

/** Writes the positions of one row and returns its delta. */
function placeRow(
  types: readonly number[],
  places: readonly number[],
  grids: GridQueue,
  merge: number,
  row: number,
  write: Write,
): number {
  let next = 0;
  let largest = -1;
  for (let i = 0; i < places.length; ) {
    const type = types[places[i] as number] as number;
    if (type === TEXT_TOKEN) {
      write(places[i] as number, next, next, next);
      largest = next++;
      i++;
      continue;
    }
    const [, gridH, gridW] = grids.take(type, row);
    const height = gridH / merge;
    const width = gridW / merge;
    for (let k = 0; k < height * width; k++) {
      const place = places[i + k];
      if (place === undefined || types[place] !== type) {
        throw new InputError(
          `row ${row}: ${k} ${typeName(type)} tokens in a row where a grid of ${gridH} x ${gridW} patches needs ` +
            `${height * width}; pass inputs as the processor made them`,
        );
      }
      write(place, next, next + Math.floor(k / width), next + (k % width));
    }
    i += height * width;
    const span = Math.max(height, width);
    largest = next + span - 1;
    next += span;
  }
  return largest + 1 - places.length;
}

function realPlaces(mask: readonly number[] | undefined, sequence: number, row: number): number[] {
  if (mask && mask.length !== sequence) {
    throw new InputError(`row ${row} of the attention mask has ${mask.length} entries; expected ${sequence}`);
  }
  return Array.from({ length: sequence }, (_, place) => place).filter((place) => mask?.[place] !== 0);
}

function typeName(type: number): string {
  return type === IMAGE_TOKEN ? 'image' : 'video';
}

/** Hands out grids in order; a video of t temporal patches gives t grids. */
class GridQueue {
  readonly #left: Record<number, Grid[]>;

  constructor(images: readonly Grid[], videos: readonly Grid[]) {
    const videoFrames = videos.flatMap(([t, h, w]) => Array.from({ length: t }, (): Grid => [1, h, w]));
    this.#left = { [IMAGE_TOKEN]: [...images].reverse(), [VIDEO_TOKEN]: videoFrames.reverse() };
  }

  take(type: number, row: number): Grid {
    const queue = this.#left[type];
    if (!queue)
      throw new InputError(`row ${row}: token type ${type} is none of 0 (text), 1 (image), 2 (video)`);
    const grid = queue.pop();
    if (!grid) throw new InputError(`row ${row} has ${typeName(type)} tokens but no grid is left for them`);
    return grid;
  }

  expectEmpty(): void {
    for (const type of [IMAGE_TOKEN, VIDEO_TOKEN]) {
      const left = this.#left[type]?.length ?? 0;
      if (left > 0) throw new InputError(`${left} ${typeName(type)} grids have no tokens in the prompt`);
    }
  }
}
