import { describe, expect, it } from 'vitest';
import { makeBatch, planPrefill, visualFeeds } from '../../src/engine/batch.ts';
import { BLOCK_POSITIONS } from '../../src/engine/cache/pool.ts';
import { type Prompt, Sequence } from '../../src/engine/sequence.ts';
import { CHUNK_TOKENS } from '../../src/models/io.ts';

const ids = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i);
const sequence = (prompt: Prompt, blocks: number[] = [0], computed = 0) => {
  const made = new Sequence(prompt, { blocks, slot: blocks[0] ?? -1 });
  made.computed = computed;
  return made;
};

describe('a batch', () => {
  it('lays prompt chunks and decoding rows end to end, without filler', () => {
    const decoding = sequence({ ids: ids(5, 10) }, [3], 5);
    decoding.append(99);
    const chunks = [
      { sequence: sequence({ ids: ids(BLOCK_POSITIONS + 3) }, [7, 2], BLOCK_POSITIONS - 1), tokens: 3 },
      { sequence: decoding, tokens: 1 },
      { sequence: sequence({ ids: ids(2, 20) }, [5]), tokens: 2 },
    ];
    const batch = makeBatch(chunks, { positionAxes: 1 }, ({ length }, place) => place === length - 1);
    const first = BigInt(BLOCK_POSITIONS - 1);
    expect([...batch.ids]).toEqual([first, first + 1n, first + 2n, 99n, 20n, 21n]);
    expect([...batch.positions]).toEqual([first, first + 1n, first + 2n, 5n, 0n, 1n]);
    expect([...batch.rowStarts]).toEqual([0, 3, 4, 6]);
    expect([...batch.pastLengths]).toEqual([BLOCK_POSITIONS - 1, 5, 0]);
    expect([...batch.blockTables]).toEqual([7, 2, 3, -1, 5, -1]);
    expect([...batch.stateSlots]).toEqual([7, 3, 5]);
    // The first row's prompt goes on after this chunk.
    expect([...batch.wanted]).toEqual([3n, 5n]);
  });

  it('takes positions on several axes from the prompt, and counts on after it', () => {
    const positions = [ids(3, 0), ids(3, 100), ids(3, 200)];
    const row = sequence({ ids: ids(3), positions, positionDelta: -2 }, [0], 2);
    row.append(8);
    const { positions: flat } = makeBatch([{ sequence: row, tokens: 2 }], { positionAxes: 3 }, () => false);
    expect([...flat]).toEqual([2n, 1n, 102n, 1n, 202n, 1n]);
  });
});

describe('the passes of a prefill', () => {
  const plan = (...lengths: number[]) => {
    const sequences = lengths.map((length) => sequence({ ids: ids(length) }));
    return planPrefill(sequences).map((chunks) =>
      chunks.map((chunk) => [sequences.indexOf(chunk.sequence), chunk.tokens]),
    );
  };

  it('take several short prompts together', () => {
    expect(plan(5, 100, 7)).toEqual([
      [
        [0, 5],
        [1, 100],
        [2, 7],
      ],
    ]);
  });

  it('hold no more than their bound, and long prompts alone in equal parts', () => {
    const half = CHUNK_TOKENS / 2;
    expect(plan(half, half, 1)).toEqual([
      [
        [0, half],
        [1, half],
      ],
      [[2, 1]],
    ]);
    expect(plan(3, CHUNK_TOKENS + 2, 4)).toEqual([[[0, 3]], [[1, half + 1]], [[1, half + 1]], [[2, 4]]]);
  });
});

describe('features of pictures', () => {
  const features = {
    embeds: Float32Array.from([1, 1, 2, 2, 3, 3]),
    deepstack: [new Float32Array(6).fill(9)],
  };

  it('go to the places of the pass that their placeholders have', () => {
    const seeing = sequence({ ids: ids(6), visual: { places: [1, 2, 5], features } }, [0], 2);
    const feeds = visualFeeds(
      [
        { sequence: sequence({ ids: ids(4) }), tokens: 4 },
        { sequence: seeing, tokens: 4 },
      ],
      2,
    );
    expect(feeds?.visual_rows?.data).toEqual(BigInt64Array.of(4n, 7n));
    expect(feeds?.visual_embeds?.data).toEqual(Float32Array.of(2, 2, 3, 3));
    expect(feeds?.['deepstack.0']?.dims).toEqual([2, 2]);
  });

  it('are no inputs of a pass without placeholders', () => {
    const seeing = sequence({ ids: ids(6), visual: { places: [1], features } }, [0], 2);
    expect(visualFeeds([{ sequence: seeing, tokens: 4 }], 2)).toBeUndefined();
  });
});
