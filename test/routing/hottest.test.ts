import { describe, expect, it } from 'vitest';
import type { RoutingFile, RoutingFileHeader } from '../../src/routing/file.ts';
import { hottestExperts, readShare } from '../../src/routing/hottest.ts';
import { NOT_ROUTED, type RoutingRecord } from '../../src/routing/record.ts';
import { Random } from '../helpers/random.ts';

const header: RoutingFileHeader = {
  ...{ format: 'switchyard-routing', version: 1 },
  ...{ model: 'acme/moe', modelType: 'qwen3_moe', dtype: 'bfloat16', backend: 'grouped_mm' },
  ...{ layers: [1, 3], experts: 8, perToken: 2, expertBytes: 1000 },
};
const record = (pass: number, request: number, experts: readonly number[]): RoutingRecord => ({
  ...{ pass, request, phase: 'decode', start: 0, tokens: experts.length / 4 },
  experts: Uint16Array.from(experts),
});
const none = [NOT_ROUTED, NOT_ROUTED];

describe('the hottest experts of a recording', () => {
  const file: RoutingFile = {
    header,
    records: [
      // Expert 5 of the first layer has three tokens in this pass, and is read once.
      record(0, 0, [5, 1, ...none, 5, 2, 7, 6, 5, 1, 7, 0]),
      record(1, 0, [1, 2, 7, 3]),
      // Two rows of one pass.
      record(2, 0, [1, 0, 7, 6]),
      record(2, 1, [1, 2, 6, 7]),
    ],
  };

  it('are those that most passes read, whatever the tokens', () => {
    expect(hottestExperts(file).map(({ place, expert, reads }) => [place, expert, reads])).toEqual([
      ...[
        [0, 1, 3],
        [0, 2, 3],
        [1, 7, 3],
        [1, 6, 2],
      ],
      ...[
        [0, 0, 1],
        [0, 5, 1],
        [1, 0, 1],
        [1, 3, 1],
      ],
    ]);
  });

  it('have their share of all reads', () => {
    const hottest = hottestExperts(file);
    expect([0, 1, 4, 8].map((count) => readShare(hottest, count))).toEqual([0, 3 / 15, 11 / 15, 1]);
    expect(readShare([], 0)).toBe(0);
  });

  it('are counted as by sets of what each pass needs', () => {
    const random = new Random(7);
    const records = Array.from({ length: 300 }, (_, i) =>
      record(
        Math.floor(i / 3),
        i % 3,
        [0, 1, 2, 3].map(() => Math.floor(8 * random.next())),
      ),
    );
    const sets = Array.from({ length: 100 }, () => new Set<string>());
    for (const { pass, experts } of records)
      for (const [i, expert] of experts.entries()) sets[pass]?.add(`${i >> 1},${expert}`);
    const counts = new Map<string, number>();
    for (const key of sets.flatMap((set) => [...set])) counts.set(key, (counts.get(key) ?? 0) + 1);
    const found = hottestExperts({ header, records });
    expect(new Map(found.map(({ place, expert, reads }) => [`${place},${expert}`, reads]))).toEqual(counts);
  });
});
