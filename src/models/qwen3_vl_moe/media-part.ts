import type { Grid } from '../../media/types.ts';
import { Scope } from '../../nn/scope.ts';
import { type MediaPart, tokenTypes } from '../architecture.ts';
import { mropePositions, type Visual } from './positions.ts';
import { buildVisionTower } from './vision.ts';
import type { VisionConfig } from './vision-config.ts';
import { towerFeeds } from './vision-feeds.ts';

export interface MediaConfig {
  readonly text: { readonly num_hidden_layers: number };
  readonly vision: VisionConfig;
  readonly imageTokenId: number;
  readonly videoTokenId: number;
}

/** What a model with the vision tower of Qwen3-VL has besides its decoder. @param tower prefix of the tower's tensors */
export function mediaPart(
  { text, vision, imageTokenId, videoTokenId }: MediaConfig,
  tower: string,
): MediaPart {
  const { in_channels, temporal_patch_size, patch_size, spatial_merge_size: merge } = vision;
  const placeholders = { image: imageTokenId, video: videoTokenId };
  return {
    placeholders,
    // A decoder cut down to its first layers has no use for more.
    deepstackLayers: Math.min(vision.deepstack_visual_indexes.length, text.num_hidden_layers),
    patchValues: in_channels * temporal_patch_size * patch_size ** 2,
    patchSize: patch_size,
    temporalPatchSize: temporal_patch_size,
    mergeSize: merge,
    tokensOf: ([time, height, width]) => (time * height * width) / merge ** 2,
    tokenTypes: (row) => tokenTypes(row, placeholders),
    positions: (types, { images, videos }) =>
      mropePositions(types, { images: images.map(still), videos: videos.flatMap(framesOf) }, merge),
    buildTower: (graph, target) => buildVisionTower(new Scope(graph, target, tower), vision),
    towerFeeds: (pixels, grid) => towerFeeds(pixels, grid, vision),
  };
}

/** A picture among the tokens of a prompt. */
export function still(grid: Grid): Visual {
  return { grid, step: 0 };
}

/** Each pair of frames of a clip is a picture of its own: its time stands before it as text. */
function framesOf([time, height, width]: Grid): Visual[] {
  return Array.from({ length: time }, () => still([1, height, width]));
}
