import type { Grid } from '../../media/types.ts';
import { type Feed, type Port, pixelValues } from '../io.ts';
import type { VisionConfig } from './vision-config.ts';
import { visionPositions } from './vision-positions.ts';

/** Inputs of the tower; frames are the batch. */
export function towerPorts(config: VisionConfig) {
  const { in_channels, temporal_patch_size, patch_size } = config;
  const patches = ['frames', 'patches'] as const;
  const angles = [...patches, headDim(config) / 2];
  return {
    pixels: pixelValues(in_channels * temporal_patch_size * patch_size ** 2),
    /** Rows of the learned grid around each patch: top left, top right, bottom left, bottom right. */
    indices: { name: 'position_indices', dtype: 'int64', shape: [4, ...patches] },
    /** Their bilinear weights. */
    weights: { name: 'position_weights', dtype: 'float32', shape: [4, ...patches, 1] },
    /** Of the 2-D rotary angles. */
    cos: { name: 'cos', dtype: 'float32', shape: angles },
    sin: { name: 'sin', dtype: 'float32', shape: angles },
  } satisfies Record<string, Port>;
}

/**
 * What the tower is fed for one picture or clip, by input name.
 * @param pixels fp32 [patches of the grid, values of a patch]
 */
export function towerFeeds(
  pixels: Float32Array,
  grid: Grid,
  config: VisionConfig,
): Readonly<Record<string, Feed>> {
  const [frames, height, width] = grid;
  const patches = height * width;
  const positions = visionPositions([grid], {
    spatialMergeSize: config.spatial_merge_size,
    gridSide: Math.sqrt(config.num_position_embeddings),
    headDim: headDim(config),
  });
  const total = frames * patches;
  const indices = new BigInt64Array(4 * total);
  const weights = new Float32Array(4 * total);
  for (let i = 0; i < total; i++) {
    for (let corner = 0; corner < 4; corner++) {
      indices[corner * total + i] = BigInt(positions.indices[i * 4 + corner] as number);
      weights[corner * total + i] = positions.weights[i * 4 + corner] as number;
    }
  }
  const ports = towerPorts(config);
  const angles = [frames, patches, headDim(config) / 2];
  return {
    [ports.pixels.name]: { dtype: 'float32', data: pixels, dims: [frames, patches, pixels.length / total] },
    [ports.indices.name]: { dtype: 'int64', data: indices, dims: [4, frames, patches] },
    [ports.weights.name]: { dtype: 'float32', data: weights, dims: [4, frames, patches, 1] },
    [ports.cos.name]: { dtype: 'float32', data: positions.cos, dims: angles },
    [ports.sin.name]: { dtype: 'float32', data: positions.sin, dims: angles },
  };
}

function headDim({ hidden_size, num_heads }: VisionConfig): number {
  return hidden_size / num_heads;
}
