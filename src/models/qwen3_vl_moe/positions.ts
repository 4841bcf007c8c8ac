import { InputError } from '../../errors.ts';
import type { Grid } from '../../media/types.ts';
import { TOKEN_TYPES } from '../architecture.ts';

const { text, image, video, audio } = TOKEN_TYPES;
const NAMES: Readonly<Record<number, string>> = { [image]: 'image', [video]: 'video' };

/** A picture or clip whose tokens follow each other in the prompt. */
export interface Visual {
  readonly grid: Grid;
  /** Positions on the time axis from one pair of frames to the next; of a picture 0. */
  readonly step: number;
}

/** Pictures and clips of a prompt, each kind in the order of its tokens. */
export interface Visuals {
  readonly images: readonly Visual[];
  readonly videos: readonly Visual[];
}

export interface MropePositions {
  /** Time, height and width position of every token: three times int32 [tokens]. */
  readonly positions: readonly Int32Array[];
  /** Position minus place of the tokens after the prompt, on all axes. */
  readonly delta: number;
}

/**
 * Positions of one prompt for the multimodal rotary embedding. Text and sound count up on all axes. A picture keeps its start on the
 * time axis and spans its merged grid on the other two; in a clip, time goes on by a step for each pair of frames. What follows starts
 * after the largest position (HF `Qwen3VLMoeModel.get_rope_index`, and `Qwen3OmniMoeThinkerForConditionalGeneration.get_rope_index`
 * without sound inside videos).
 * @param types the kind of each token: see `TOKEN_TYPES`
 * @param merge patches a side of the block that makes one token
 * @throws InputError where token types and grids do not fit together
 */
export function mropePositions(types: readonly number[], visuals: Visuals, merge: number): MropePositions {
  const axes = [0, 1, 2].map(() => new Int32Array(types.length));
  const write = (place: number, ...position: readonly number[]) => {
    for (const [axis, positions] of axes.entries()) positions[place] = position[axis] as number;
  };
  const queues = { [image]: visuals.images.values(), [video]: visuals.videos.values() };
  let next = 0;
  for (let place = 0; place < types.length; ) {
    const type = types[place] as number;
    if (type === text || type === audio) {
      write(place++, next, next, next);
      next++;
      continue;
    }
    if (type !== image && type !== video)
      throw new InputError(`token type ${type} is none of 0 (text), 1 (image), 2 (video), 3 (sound)`);
    const { value: visual } = queues[type].next();
    if (!visual) throw new InputError(`the prompt has ${NAMES[type]} tokens but no grid is left for them`);
    const [time, height, width] = [visual.grid[0], visual.grid[1] / merge, visual.grid[2] / merge];
    const frame = height * width;
    for (let k = 0; k < time * frame; k++, place++) {
      if (types[place] !== type)
        throw new InputError(
          `${k} ${NAMES[type]} tokens in a row where a grid of ${visual.grid.join(' x ')} patches needs ${time * frame}; ` +
            'pass inputs as the processor made them',
        );
      const row = Math.floor((k % frame) / width);
      write(place, next + visual.step * Math.floor(k / frame), next + row, next + (k % width));
    }
    next += Math.max(visual.step * (time - 1), height - 1, width - 1) + 1;
  }
  for (const type of [image, video] as const) {
    const left = [...queues[type]].length;
    if (left > 0) throw new InputError(`${left} ${NAMES[type]} grids have no tokens in the prompt`);
  }
  return { positions: axes, delta: next - types.length };
}
