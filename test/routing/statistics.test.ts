import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { type RoutingFile, type RoutingFileHeader, readRoutingFile } from '../../src/routing/file.ts';
import { routingPage } from '../../src/routing/page.ts';
import { NOT_ROUTED, type RoutingRecord } from '../../src/routing/record.ts';
import { compareRouting, loadOf, routingStatistics } from '../../src/routing/statistics.ts';
import { describeRouting } from '../../src/routing/summary.ts';
import { Random } from '../helpers/random.ts';

const header: RoutingFileHeader = {
  ...{ format: 'switchyard-routing', version: 1 },
  ...{ model: 'acme/moe', modelType: 'qwen3_moe', dtype: 'bfloat16', backend: 'grouped_mm' },
  ...{ layers: [1, 3], experts: 8, perToken: 2, expertBytes: 1000 },
};

/** Tokens as lists of their experts, layer by layer; an empty list where a layer did not compute it. */
function record(
  pass: number,
  request: number,
  phase: RoutingRecord['phase'],
  start: number,
  tokens: readonly (readonly (readonly number[])[])[],
): RoutingRecord {
  const flat = tokens.flatMap((layers) =>
    layers.flatMap((ids) => (ids.length ? ids : [NOT_ROUTED, NOT_ROUTED])),
  );
  return { pass, request, phase, start, tokens: tokens.length, experts: Uint16Array.from(flat) };
}

const file: RoutingFile = {
  header,
  records: [
    record(0, 0, 'prefill', 0, [
      [[0, 1], []],
      [
        [0, 2],
        [7, 6],
      ],
    ]),
    record(1, 1, 'prefill', 0, [
      [
        [0, 1],
        [7, 6],
      ],
    ]),
    record(2, 0, 'decode', 2, [
      [
        [1, 0],
        [5, 4],
      ],
    ]),
    record(2, 1, 'decode', 1, [
      [
        [3, 0],
        [5, 4],
      ],
    ]),
    record(3, 0, 'decode', 3, [
      [
        [0, 1],
        [5, 7],
      ],
    ]),
  ],
};

describe('statistics of routing records', () => {
  const statistics = routingStatistics(file);

  it('count tokens, requests and passes', () => {
    expect(statistics).toMatchObject({ requests: 2, passes: 4, tokens: { prefill: 3, decode: 3 } });
  });

  it('give the load of each layer, of tokens that it computed', () => {
    expect(statistics.layers.map(({ layer, tokens }) => [layer, [...tokens]])).toEqual([
      [1, [6, 4, 1, 1, 0, 0, 0, 0]],
      [3, [0, 0, 0, 0, 2, 3, 2, 3]],
    ]);
    expect(statistics.layers.map(({ dead }) => dead)).toEqual([4, 4]);
  });

  it('call even what is even, and uneven what is not', () => {
    expect(loadOf(0, new Float64Array(8).fill(5))).toMatchObject({ entropy: 1, jain: 1, dead: 0 });
    const one = new Float64Array(8);
    one[3] = 9;
    expect(loadOf(0, one)).toMatchObject({ entropy: 0, jain: 1 / 8, dead: 7 });
    expect(loadOf(0, Float64Array.of(3, 1))).toMatchObject({
      entropy: -(0.75 * Math.log2(0.75) + 0.25 * Math.log2(0.25)),
      jain: 16 / 20,
    });
  });

  it('count different experts of rows decoded together, beside what chance would give', () => {
    const [alone, both] = statistics.batches;
    expect(alone).toEqual({ rows: 1, passes: 1, distinct: 2, expected: 8 * (1 - 6 / 8) });
    // Layer 1 needs 0, 1 and 3; layer 3 needs 4 and 5.
    expect(both).toMatchObject({ rows: 2, passes: 1, distinct: 2.5 });
    expect(both?.expected).toBeCloseTo(8 * (1 - (6 / 8) ** 2));
    expect(statistics.bytes.perPass).toBeCloseTo(((2 + 2.5) / 2) * 2 * 1000);
  });

  it('count different experts of tokens in a row, request by request', () => {
    const [one, two] = statistics.workingSet;
    expect(one).toEqual({ tokens: 1, experts: 2 });
    // Request 0: layer 1 [0 1|0 2] [1 0|0 1], layer 3 [7 6|5 4]; request 1: [0 1|3 0], [7 6|5 4].
    expect(two).toEqual({ tokens: 2, experts: (3 + 2 + 4 + 3 + 4) / 5 });
  });

  it('say what a cache would find as a cache that is played through does', () => {
    const random = new Random(5);
    const pick = () => {
      const a = Math.floor(random.next() ** 2 * 8);
      const b = (a + 1 + Math.floor(random.next() * 7)) % 8;
      return [a, b];
    };
    const records = Array.from({ length: 60 }, (_, n) => record(n, 0, 'decode', n, [[pick(), pick()]]));
    const { hitRate } = routingStatistics({ header, records });
    for (let size = 0; size <= 8; size++) {
      let [found, uses] = [0, 0];
      for (const layer of [0, 1]) {
        const kept: number[] = [];
        for (const { experts } of records)
          for (const expert of experts.subarray(2 * layer, 2 * layer + 2)) {
            uses++;
            if (kept.includes(expert)) found++;
            kept.splice(0, kept.length, expert, ...kept.filter((other) => other !== expert));
            kept.length = Math.min(kept.length, size);
          }
      }
      expect(hitRate[size]).toBeCloseTo(found / uses, 12);
    }
  });

  it('say which part of all reads the busiest experts would serve', () => {
    // Passes 0 to 3 of layer 1 need 0 1 2, 0 1, 0 1 3 and 0 1; of layer 3: 6 7, 6 7, 4 5 and 5 7.
    expect(statistics.pinning).toEqual([
      { experts: 1, bytes: 1000, share: 4 / 18 },
      { experts: 2, bytes: 2000, share: 8 / 18 },
      { experts: 4, bytes: 4000, share: 13 / 18 },
      { experts: 8, bytes: 8000, share: 1 },
    ]);
  });

  it('compare two files by load and by the choices for the same tokens', () => {
    expect(compareRouting(file, file)?.map(({ divergence, agreement }) => [divergence, agreement])).toEqual([
      [0, 1],
      [0, 1],
    ]);
    const other = {
      header,
      records: [
        record(0, 0, 'prefill', 0, [
          [
            [0, 4],
            [4, 5],
          ],
        ]),
      ],
    };
    const [first, second] = compareRouting(file, other) ?? [];
    expect(first?.agreement).toBe(1 / 2);
    // The only token of both was not computed there.
    expect(second?.agreement).toBeUndefined();
    expect(first?.divergence).toBeGreaterThan(0);
    expect(compareRouting(file, { ...file, header: { ...header, experts: 9 } })).toBeUndefined();
  });

  it('are told in words and on a page, with the same figures and without a request', () => {
    const text = describeRouting(statistics);
    const page = routingPage(file, statistics);
    for (const { entropy, jain } of statistics.layers)
      for (const figure of [entropy.toFixed(4), jain.toFixed(4)]) {
        expect(text).toContain(figure);
        expect(page).toContain(`<td>${figure}</td>`);
      }
    expect(text).toContain('    4  72.2%, 0.0 MB\n');
    expect(page).toContain('<td>4</td><td>0.0 MB</td><td>72.2%</td>');
    const data = JSON.parse(/id="data">(.*?)<\/script>/s.exec(page)?.[1] as string);
    expect(data.load).toEqual(statistics.layers.map(({ tokens }) => [...tokens]));
    expect(data.tokens[0]).toEqual({ request: 0, place: 0, experts: [[0, 1], []] });
    expect(page).not.toMatch(/(?:src|href)=|https?:|url\(|@import/);
  });

  it('keep what a file says out of the page’s markup', () => {
    const model = '<img src=x onerror=alert(1)></script>';
    const page = routingPage(
      { ...file, header: { ...header, model } },
      {
        ...statistics,
        header: { ...header, model },
      },
    );
    expect(page).not.toContain('<img');
    expect(page.match(/<\/script>/g)?.length).toBe(2);
  });
});

describe('a file that is none of ours', () => {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-routing-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const lines = (...values: unknown[]) => values.map((value) => JSON.stringify(value)).join('\n');
  const sound = {
    ...{ pass: 0, request: 0, phase: 'decode', start: 1, tokens: 1 },
    experts: Buffer.from(Uint16Array.of(0, 1, 2, 3).buffer).toString('base64'),
  };

  it.each<[string, string, RegExp]>([
    ['empty', '', /is empty; expected a file written with --routing/],
    ['no JSON', 'hello\nthere', /line 1 is not JSON/],
    [
      'of another format',
      lines({ format: 'x' }),
      /line 1 is not the header of a file of routing records: format/,
    ],
    ['of a later version', lines({ ...header, version: 2 }), /version is 2/],
    [
      'with a record of another size',
      lines(header, { ...sound, tokens: 2 }),
      /line 2: experts has 8 bytes; expected 16/,
    ],
    [
      'with an expert that is not there',
      lines({ ...header, experts: 3 }, sound),
      /line 2: expert 3 is not one of 3/,
    ],
    [
      'with a negative place',
      lines(header, { ...sound, start: -1 }),
      /line 2 is not a routing record: start is -1/,
    ],
  ])('is refused by line and reason: %s', async (name, text, message) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    await expect(readRoutingFile(path)).rejects.toThrow(InputError);
    await expect(readRoutingFile(path)).rejects.toThrow(message);
  });

  it('is read up to its last whole line where a kill has cut it', async () => {
    const path = join(folder, 'cut');
    writeFileSync(path, `${lines(header, sound)}\n{"pass":1,"requ`);
    const { records } = await readRoutingFile(path);
    expect(records.map(({ experts }) => [...experts])).toEqual([[0, 1, 2, 3]]);
  });

  it('that is not there is named', async () => {
    await expect(readRoutingFile(join(folder, 'none'))).rejects.toThrow(
      /none cannot be read: there is no such file/,
    );
  });
});
