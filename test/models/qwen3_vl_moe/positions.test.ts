import { describe, expect, it } from 'vitest';
import { InputError } from '../../../src/errors.ts';
import type { Grid } from '../../../src/media/types.ts';
import type { MediaGrids, MediaPart } from '../../../src/models/architecture.ts';
import { qwen3_omni_moe } from '../../../src/models/qwen3_omni_moe/model.ts';
import { qwen3_vl_moe } from '../../../src/models/qwen3_vl_moe/model.ts';
import { goldenModel, readJson } from '../../helpers/goldens.ts';
import type { GoldenPrompt } from './goldens.ts';

const ARCHITECTURES = { qwen3_vl_moe_e: qwen3_vl_moe, qwen3_omni_moe_l: qwen3_omni_moe };
type Name = keyof typeof ARCHITECTURES;

/** What a golden checkpoint has for pictures; blocks of 2 x 2 patches make a token. */
function mediaOf(name: Name): MediaPart {
  const { media } = ARCHITECTURES[name].parse(readJson(goldenModel(name), 'config.json'), 'config.json');
  if (!media) throw new Error(`${name} does not see`);
  return media;
}

/** Positions in plain lists. */
function place(name: Name, types: readonly number[], grids: Partial<MediaGrids> = {}) {
  const { positions, delta } = mediaOf(name).positions(types, { images: [], videos: [], ...grids });
  return { positions: positions.map((axis) => [...axis]), delta };
}

describe.each(Object.keys(ARCHITECTURES) as Name[])('positions of %s', (name) => {
  const { prompts } = readJson<{ prompts: GoldenPrompt[] }>(goldenModel(name), 'expected.json');

  it.each(prompts)('are those of the reference: $name', (prompt) => {
    const types = mediaOf(name).tokenTypes(prompt.input_ids);
    expect(place(name, types, { images: prompt.image_grid_thw })).toEqual({
      positions: prompt.position_ids,
      delta: prompt.rope_delta,
    });
  });

  it('tell pictures apart that follow each other without text', () => {
    const images: Grid[] = [
      [1, 4, 4],
      [1, 2, 2],
    ];
    expect(place(name, [1, 1, 1, 1, 1], { images })).toEqual({
      positions: [
        [0, 0, 0, 0, 2],
        [0, 0, 1, 1, 2],
        [0, 1, 0, 1, 2],
      ],
      delta: -2,
    });
  });

  it('refuse token types and grids that do not fit together', () => {
    const tried = (types: number[], images: Grid[]) => () => place(name, types, { images });
    expect(tried([0, 1, 1], [])).toThrow(/the prompt has image tokens but no grid is left/);
    expect(tried([0, 1, 1, 0], [[1, 4, 4]])).toThrow(
      /2 image tokens in a row where a grid of 1 x 4 x 4 patches needs 4/,
    );
    expect(tried([0, 1, 1], [[1, 4, 4]])).toThrow(/2 image tokens in a row/);
    expect(tried([0, 0], [[1, 4, 4]])).toThrow(/1 image grids have no tokens/);
    expect(tried([0, 7], [])).toThrow(/token type 7 is none of 0 \(text\)/);
    expect(tried([0, 1], [])).toThrow(InputError);
  });
});

it('positions of Qwen3-VL treat each pair of frames of a video as a picture', () => {
  expect(place('qwen3_vl_moe_e', [0, 2, 2, 0, 2, 2, 0], { videos: [[2, 2, 4]] })).toEqual({
    positions: [
      [0, 1, 1, 3, 4, 4, 6],
      [0, 1, 1, 3, 4, 4, 6],
      [0, 1, 2, 3, 4, 5, 6],
    ],
    delta: 0,
  });
});

it('positions of Qwen3-Omni keep a video together, its frames apart by the time between them', () => {
  const { thinker_config: thinker } = readJson<{ thinker_config: { position_id_per_seconds: number } }>(
    goldenModel('qwen3_omni_moe_l'),
    'config.json',
  );
  const step = thinker.position_id_per_seconds;
  const grids: Partial<MediaGrids> = { videos: [[2, 2, 4]], secondsPerGrid: [1] };
  expect(place('qwen3_omni_moe_l', [0, 2, 2, 2, 2, 0], grids)).toEqual({
    positions: [
      [0, 1, 1, 1 + step, 1 + step, 2 + step],
      [0, 1, 1, 1, 1, 2 + step],
      [0, 1, 2, 1, 2, 2 + step],
    ],
    delta: 2 + step - 5,
  });
});
