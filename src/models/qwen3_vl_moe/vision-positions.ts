import type { Grid } from '../../media/types.ts';

/** Everything the vision tower needs beside the pixels; patches in the order of the pixel rows. */
export interface VisionPositions {
  /** Number of patches of all pictures together. */
  readonly patches: number;
  /** Rows of the learned position table to mix, `[patches, 4]`: top left, top right, bottom left, bottom right. */
  readonly indices: Int32Array;
  /** Their bilinear weights, `[patches, 4]`. */
  readonly weights: Float32Array;
  /** Cosine and sine of the 2-D rotary angles, `[patches, headDim / 2]`: row frequencies, then column frequencies. */
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  /** Bounds of the stretches within which patches attend to each other, one stretch a frame: 0, …, patches. */
  readonly cuSeqlens: Int32Array;
}

export interface VisionShape {
  /** `vision_config.spatial_merge_size`. */
  readonly spatialMergeSize: number;
  /** Side of the learned position grid: √`num_position_embeddings`. */
  readonly gridSide: number;
  /** `hidden_size / num_heads` of the vision tower; a multiple of 4. */
  readonly headDim: number;
  /** Base of the rotary frequencies. */
  readonly theta?: number;
}

/**
 * Positions for the vision tower. The learned grid is stretched over the picture corner to corner (bilinear,
 * align_corners); rotary angles are row and column times theta^(−4i / headDim), in fp32. Every frame of a video gets
 * the same positions. For a rotation of the whole head, both halves of a head use the `cos` and `sin` given here
 * (HF `get_vision_interpolation_indices_and_weights`, `Qwen3VLMoeVisionRotaryEmbedding`).
 */
export function visionPositions(grids: readonly Grid[], shape: VisionShape): VisionPositions {
  const patches = grids.reduce((sum, [t, h, w]) => sum + t * h * w, 0);
  const half = shape.headDim / 2;
  const out: VisionPositions = {
    patches,
    indices: new Int32Array(patches * 4),
    weights: new Float32Array(patches * 4),
    cos: new Float32Array(patches * half),
    sin: new Float32Array(patches * half),
    cuSeqlens: frameBounds(grids),
  };
  const frequencies = rotaryFrequencies(shape);
  let patch = 0;
  for (const [t, h, w] of grids) {
    const rows = tables(h, shape.gridSide, frequencies);
    const columns = tables(w, shape.gridSide, frequencies);
    const order = mergeOrder(h, w, shape.spatialMergeSize);
    for (let frame = 0; frame < t; frame++) {
      for (let i = 0; i < h * w; i++, patch++) {
        const row = order.rows[i] as number;
        const column = order.columns[i] as number;
        writePosition(out, patch, rows, row, columns, column, shape.gridSide);
      }
    }
  }
  return out;
}

/** Row and column of each patch of one frame, blocks of `merge` × `merge` patches one after the other. */
function mergeOrder(height: number, width: number, merge: number): { rows: Int32Array; columns: Int32Array } {
  const rows = new Int32Array(height * width);
  const columns = new Int32Array(height * width);
  let patch = 0;
  for (let blockRow = 0; blockRow < height; blockRow += merge) {
    for (let blockColumn = 0; blockColumn < width; blockColumn += merge) {
      for (let i = 0; i < merge * merge; i++, patch++) {
        rows[patch] = blockRow + Math.floor(i / merge);
        columns[patch] = blockColumn + (i % merge);
      }
    }
  }
  return { rows, columns };
}

/** Along one axis, for every patch: the two grid lines around it, the weight of the second, and rotary cos and sin. */
interface AxisTables {
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly fraction: Float32Array;
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  readonly frequencies: number;
}

function tables(size: number, side: number, frequencies: Float32Array): AxisTables {
  const n = frequencies.length;
  const axis: AxisTables = {
    low: new Int32Array(size),
    high: new Int32Array(size),
    fraction: new Float32Array(size),
    cos: new Float32Array(size * n),
    sin: new Float32Array(size * n),
    frequencies: n,
  };
  for (let i = 0; i < size; i++) {
    const at = Math.fround(Math.fround(i * (side - 1)) / Math.max(1, size - 1));
    axis.low[i] = Math.min(Math.floor(at), side - 1);
    axis.high[i] = Math.min(Math.floor(at) + 1, side - 1);
    axis.fraction[i] = at - Math.floor(at);
    for (let f = 0; f < n; f++) {
      const angle = Math.fround(i * (frequencies[f] as number));
      axis.cos[i * n + f] = Math.cos(angle);
      axis.sin[i * n + f] = Math.sin(angle);
    }
  }
  return axis;
}

function writePosition(
  out: VisionPositions,
  patch: number,
  rows: AxisTables,
  row: number,
  columns: AxisTables,
  column: number,
  side: number,
): void {
  const down = rows.fraction[row] as number;
  const right = columns.fraction[column] as number;
  const top = (rows.low[row] as number) * side;
  const bottom = (rows.high[row] as number) * side;
  const left = columns.low[column] as number;
  const far = columns.high[column] as number;
  const up = Math.fround(1 - down);
  const back = Math.fround(1 - right);
  const at = patch * 4;
  out.indices[at] = top + left;
  out.indices[at + 1] = top + far;
  out.indices[at + 2] = bottom + left;
  out.indices[at + 3] = bottom + far;
  out.weights[at] = up * back;
  out.weights[at + 1] = up * right;
  out.weights[at + 2] = down * back;
  out.weights[at + 3] = down * right;
  copyAngles(out.cos, patch, rows.cos, row, columns.cos, column, rows.frequencies);
  copyAngles(out.sin, patch, rows.sin, row, columns.sin, column, rows.frequencies);
}

/** The row's values, then the column's. A plain loop: subarrays would cost more than the few floats they cover. */
function copyAngles(
  target: Float32Array,
  patch: number,
  rows: Float32Array,
  row: number,
  columns: Float32Array,
  column: number,
  count: number,
): void {
  const to = patch * 2 * count;
  for (let i = 0; i < count; i++) {
    target[to + i] = rows[row * count + i] as number;
    target[to + count + i] = columns[column * count + i] as number;
  }
}

/** headDim / 4 frequencies; both axes use the same ones. */
function rotaryFrequencies({ headDim, theta = 10_000 }: VisionShape): Float32Array {
  return Float32Array.from(
    { length: headDim / 4 },
    (_, i) => 1 / Math.fround(theta ** Math.fround((4 * i) / headDim)),
  );
}

function frameBounds(grids: readonly Grid[]): Int32Array {
  const bounds = [0];
  for (const [t, h, w] of grids) {
    for (let frame = 0; frame < t; frame++) bounds.push((bounds.at(-1) as number) + h * w);
  }
  return Int32Array.from(bounds);
}
