import { describe, expect, it } from 'vitest';
import { InputError } from '../../../src/errors.ts';
import { type MropePositions, mropePositions } from '../../../src/models/qwen3_vl_moe/positions.ts';
import { golden } from './goldens.ts';

/** [3][batch][sequence] as nested lists. */
function nested({ positionIds, dims: [axes, batch, sequence] }: MropePositions): number[][][] {
  return Array.from({ length: axes }, (_, axis) =>
    Array.from({ length: batch }, (_, row) => {
      const from = (axis * batch + row) * sequence;
      return [...positionIds.subarray(from, from + sequence)];
    }),
  );
}

describe('mropePositions', () => {
  it.each(golden.prompts)('places prompt $name as the reference', (prompt) => {
    const result = mropePositions({
      mmTokenTypeIds: [prompt.mm_token_type_ids],
      imageGridThw: prompt.image_grid_thw,
      spatialMergeSize: 2,
    });
    expect(nested(result).map((axis) => axis[0])).toEqual(prompt.position_ids);
    expect(result.ropeDeltas).toEqual([prompt.rope_delta]);
  });

  it.each(golden.batches)('places left-padded rows $rows as the reference', (batch) => {
    const result = mropePositions({
      mmTokenTypeIds: batch.mm_token_type_ids,
      attentionMask: batch.attention_mask,
      imageGridThw: batch.image_grid_thw,
      spatialMergeSize: 2,
    });
    expect(nested(result)).toEqual(batch.position_ids);
    expect(result.ropeDeltas).toEqual(batch.rope_deltas);
  });

  it('treats each temporal patch of a video as a picture', () => {
    const result = mropePositions({
      mmTokenTypeIds: [[0, 2, 2, 0, 2, 2, 0]],
      videoGridThw: [[2, 2, 4]],
      spatialMergeSize: 2,
    });
    expect(nested(result).map((axis) => axis[0])).toEqual([
      [0, 1, 1, 3, 4, 4, 6],
      [0, 1, 1, 3, 4, 4, 6],
      [0, 1, 2, 3, 4, 5, 6],
    ]);
    expect(result.ropeDeltas).toEqual([0]);
  });

  it('tells pictures apart that follow each other without text', () => {
    const result = mropePositions({
      mmTokenTypeIds: [[1, 1, 1, 1, 1]],
      imageGridThw: [
        [1, 4, 4],
        [1, 2, 2],
      ],
      spatialMergeSize: 2,
    });
    expect(nested(result).map((axis) => axis[0])).toEqual([
      [0, 0, 0, 0, 2],
      [0, 0, 1, 1, 2],
      [0, 1, 0, 1, 2],
    ]);
    expect(result.ropeDeltas).toEqual([-2]);
  });

  it('refuses token types and grids that do not fit together', () => {
    const place = (types: number[], grids: [number, number, number][]) => () =>
      mropePositions({ mmTokenTypeIds: [types], imageGridThw: grids, spatialMergeSize: 2 });
    expect(place([0, 1, 1], [])).toThrow(/row 0 has image tokens but no grid is left/);
    expect(place([0, 1, 1, 0], [[1, 4, 4]])).toThrow(
      /2 image tokens in a row where a grid of 4 x 4 patches needs 4/,
    );
    expect(place([0, 0], [[1, 4, 4]])).toThrow(/1 image grids have no tokens/);
    expect(place([0, 7], [])).toThrow(/token type 7 is none of 0 \(text\)/);
    expect(place([0, 1], [])).toThrow(InputError);
  });
});
