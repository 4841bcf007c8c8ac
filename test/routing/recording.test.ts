import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AutoModelForCausalLM,
  type CausalLM,
  type GenerateOutput,
  InputError,
  NOT_ROUTED,
  type RoutingRecord,
  readRoutingFile,
  recordRouting,
} from '../../src/index.ts';
import { goldenModel, readJson } from '../helpers/goldens.ts';

const NAME = 'qwen3_moe_c';
const golden = readJson(goldenModel(NAME), 'expected.json');
const prompts = golden.prompts.map(({ input_ids }) => input_ids);
const GREEDY = { doSample: false, repetitionPenalty: 1, eosTokenId: [] as number[] };

let model: CausalLM;
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'switchyard-routing-'));
  model = await AutoModelForCausalLM.fromPretrained(goldenModel(NAME), { dtype: 'float32', threads: 2 });
});
afterAll(async () => {
  await model.dispose();
  rmSync(folder, { recursive: true });
});

/** Records of what `work` runs. */
async function recordsOf(work: () => Promise<unknown>, weights = false): Promise<RoutingRecord[]> {
  const records: RoutingRecord[] = [];
  const listener = (record: RoutingRecord) => void records.push(record);
  model.on('routing', listener, { weights });
  await work().finally(() => model.off('routing', listener));
  return records;
}

describe('a listener to routing', () => {
  it.each(['eager', 'batched_mm', 'grouped_mm'])('hears what forward gives, by %s', async (experts) => {
    for (const ids of prompts) {
      const options = { inputIds: [ids], expertsImplementation: experts };
      const { routerIndices, routerWeights } = await model.forward({ ...options, outputRouterLogits: true });
      // All logits are wanted, so the last layer computes every token.
      const records = await recordsOf(() => model.forward(options), true);
      const { layers, perToken: k } = model.routingHeader;
      const [expected, weights] = [routerIndices, routerWeights].map((tensors) =>
        ids.flatMap((_, token) =>
          layers.flatMap((_, layer) => [
            ...((tensors?.[layer]?.data ?? []) as Float32Array).slice(token * k, (token + 1) * k),
          ]),
        ),
      );
      expect(records.flatMap((record) => [...record.experts])).toEqual(expected);
      expect(records.flatMap((record) => [...(record.weights ?? [])])).toEqual(weights);
    }
  });

  it('hears of every token of a generation once, in passes, and of none twice', async () => {
    const inputIds = [prompts[0] as number[]];
    const records = await recordsOf(() => model.generate({ ...GREEDY, inputIds, maxNewTokens: 5 }));
    const length = inputIds[0]?.length as number;
    expect(records.map(({ phase, start, tokens }) => [phase, start, tokens])).toEqual([
      ['prefill', 0, length],
      // The last token is chosen and not computed.
      ...[0, 1, 2, 3].map((n) => ['decode', length + n, 1]),
    ]);
    expect(new Set(records.map(({ pass }) => pass)).size).toBe(5);
    expect(new Set(records.map(({ request }) => request)).size).toBe(1);
  });

  it('sees which experts of the last layer a prompt needs: those of its last token', async () => {
    const inputIds = [prompts[0] as number[]];
    const [record] = await recordsOf(() => model.generate({ ...GREEDY, inputIds, maxNewTokens: 1 }));
    const { layers, perToken: k } = model.routingHeader;
    expect(layers.at(-1)).toBe((model.config.num_hidden_layers as number) - 1);
    const { experts, tokens } = record as RoutingRecord;
    const last = (token: number) =>
      [...experts].slice(((token + 1) * layers.length - 1) * k, (token + 1) * layers.length * k);
    for (let token = 0; token < tokens - 1; token++) expect(last(token)).toEqual(Array(k).fill(NOT_ROUTED));
    expect(last(tokens - 1).every((expert) => expert < model.routingHeader.experts)).toBe(true);
  });

  it('hears rows that are computed together with the number of one pass, each with its own request', async () => {
    const width = Math.min(...prompts.map((ids) => ids.length));
    const inputIds = prompts.slice(0, 2).map((ids) => ids.slice(0, width));
    const records = await recordsOf(() => model.generate({ ...GREEDY, inputIds, maxNewTokens: 3 }));
    const steps = records.filter(({ phase }) => phase === 'decode');
    expect(steps.length).toBe(4);
    expect(new Set(steps.map(({ pass }) => pass)).size).toBe(2);
    expect(new Set(steps.map(({ request }) => request)).size).toBe(2);
  });

  it('changes nothing, whatever it does to a record, and hears nothing after off', async () => {
    const inputIds = [prompts[0] as number[]];
    const calm = await model.generate({ ...GREEDY, inputIds, maxNewTokens: 4 });
    const second: RoutingRecord[] = [];
    const spoil = ({ experts }: RoutingRecord) => void experts.fill(7);
    const keep = (record: RoutingRecord) => void second.push(record);
    model.on('routing', spoil).on('routing', keep);
    const { sequences } = await model.generate({ ...GREEDY, inputIds, maxNewTokens: 4 });
    model.off('routing', spoil).off('routing', keep);
    expect(sequences).toEqual(calm.sequences);
    expect(second.some(({ experts }) => experts.some((expert) => expert !== 7))).toBe(true);
    const heard = second.length;
    await model.generate({ ...GREEDY, inputIds, maxNewTokens: 4 });
    expect(second.length).toBe(heard);
  });

  it('is refused for another event or what is no function', () => {
    expect(() => model.on('tokens' as 'routing', () => {})).toThrow(InputError);
    expect(() => model.on('routing', 5 as never)).toThrow(/listener is 5; expected a function/);
    expect(() => model.on('routing', () => {}, { wieghts: true } as never)).toThrow(
      /did you mean "weights"/i,
    );
  });
});

describe('counters', () => {
  it('count every use of an expert, whether anybody listens or not', async () => {
    const before = await model.routedTokens();
    const ids = prompts[1] as number[];
    const records = await recordsOf(() => model.forward({ inputIds: [ids] }));
    const after = await model.routedTokens();
    const { layers, perToken: k, experts } = model.routingHeader;
    expect(after.layers).toEqual(layers);
    const expected = layers.map(() => new Array<number>(experts).fill(0));
    for (const record of records)
      for (const [i, expert] of record.experts.entries()) {
        const counts = expected[Math.floor(i / k) % layers.length] as number[];
        counts[expert] = (counts[expert] as number) + 1;
      }
    const grown = after.tokens.map((tokens, i) =>
      [...tokens].map((n, e) => n - (before.tokens[i]?.[e] ?? 0)),
    );
    expect(grown).toEqual(expected);
  });
});

describe('a file of routing records', () => {
  it('gives back what was recorded', async () => {
    const file = join(folder, 'run.jsonl');
    const inputIds = [prompts[0] as number[]];
    const recorder = await recordRouting(model, file, { weights: true });
    const heard = await recordsOf(() => model.generate({ ...GREEDY, inputIds, maxNewTokens: 3 }), true);
    await recorder.close();
    await model.generate({ ...GREEDY, inputIds, maxNewTokens: 3 });
    const { header, records } = await readRoutingFile(file);
    expect(header).toEqual({ format: 'switchyard-routing', version: 1, ...model.routingHeader });
    expect(records).toEqual(heard);
  });

  it('has values that are nested a little, and no other than it needs', async () => {
    const file = join(folder, 'deep.jsonl');
    const header = { format: 'switchyard-routing', version: 1, ...model.routingHeader };
    const nested = (depth: number) =>
      `${JSON.stringify(header).slice(0, -1)},"x":${'['.repeat(depth)}${']'.repeat(depth)}}\n`;
    writeFileSync(file, nested(8));
    expect((await readRoutingFile(file)).header).toEqual(header);
    writeFileSync(file, nested(100));
    await expect(readRoutingFile(file)).rejects.toThrow(
      /line 1 has values that are nested more than 64 deep/,
    );
    await expect(readRoutingFile(file)).rejects.toThrow(InputError);
  });

  it('that cannot be opened is refused by name, and nothing is recorded', async () => {
    const file = join(folder, 'none', 'run.jsonl');
    await expect(recordRouting(model, file)).rejects.toThrow(InputError);
    await expect(recordRouting(model, file)).rejects.toThrow(file);
  });

  it.runIf(existsSync('/dev/full'))(
    'on a disk that is full says so at the end, not in the generation',
    async () => {
      const recorder = await recordRouting(model, '/dev/full');
      const inputIds = [prompts[0] as number[]];
      await model.generate({ ...GREEDY, inputIds, maxNewTokens: 3 });
      await expect(recorder.close()).rejects.toThrow(/\/dev\/full: .*ENOSPC/);
    },
  );
});

describe('returnRoutedExperts', () => {
  /** What a listener hears of each row, put together by place. */
  const heard = (records: readonly RoutingRecord[], width: number, request: number) =>
    records
      .filter((record) => record.request === request)
      .flatMap(({ experts, tokens }) => {
        expect(experts).toHaveLength(tokens * width);
        return [...experts];
      });

  it('gives of every row what a listener hears', async () => {
    const [width, ids] = [
      model.routingHeader.layers.length * model.routingHeader.perToken,
      prompts[0] as number[],
    ];
    const options = { inputIds: [ids, ids.toReversed()], maxNewTokens: 6, returnRoutedExperts: true };
    const first: RoutingRecord[] = [];
    let output: GenerateOutput | undefined;
    first.push(
      ...(await recordsOf(async () => {
        output = await model.generate({ ...GREEDY, ...options });
      })),
    );
    const requests = [...new Set(first.map(({ request }) => request))];
    for (const [row, request] of requests.entries()) {
      const { experts, layers, perToken } = output?.routedExperts?.[row] ?? {};
      expect([...(experts ?? [])]).toEqual(heard(first, width, request));
      expect(experts).toHaveLength((ids.length + 5) * width);
      expect([layers, perToken]).toEqual([model.routingHeader.layers, model.routingHeader.perToken]);
    }
    expect(requests).toHaveLength(2);
  });

  it('is whole where an earlier call has computed the prompt, and the same with guesses and several answers', async () => {
    const inputIds = [
      Array.from(
        { length: 200 },
        (_, i) => (prompts[0] as number[])[i % (prompts[0]?.length ?? 1)] as number,
      ),
    ];
    const ask = async (more: object = {}) =>
      (await model.generate({ ...GREEDY, inputIds, maxNewTokens: 8, returnRoutedExperts: true, ...more }))
        .routedExperts;
    const [alone] = (await ask()) ?? [];
    const { stats } = await model.generate({ ...GREEDY, inputIds, maxNewTokens: 8 });
    const again = await model.generate({ ...GREEDY, inputIds, maxNewTokens: 8 });
    expect([stats.cachedTokens, again.stats.cachedTokens > 0]).toEqual([0, true]);
    expect(await ask()).toEqual([alone]);
    expect(await ask({ promptLookupNumTokens: 4 })).toEqual([alone]);
    const prompted = 200 * model.routingHeader.layers.length * model.routingHeader.perToken;
    const answers = (await ask({ doSample: true, temperature: 5, seed: 1, numReturnSequences: 3 })) ?? [];
    expect(answers).toHaveLength(3);
    for (const { experts } of answers)
      expect(experts.slice(0, prompted)).toEqual(alone?.experts.slice(0, prompted));
    expect(answers[0]?.experts).not.toEqual(answers[1]?.experts);
  });

  it('is refused where it has no meaning', async () => {
    const options = { ...GREEDY, inputIds: [[1, 2]], maxNewTokens: 2 };
    await expect(model.generate({ ...options, returnRoutedExperts: true, numBeams: 2 })).rejects.toThrow(
      'numBeams is 2, which excludes returnRoutedExperts',
    );
    await expect(model.generate({ ...options, returnRoutedExperts: 1 as never })).rejects.toThrow(
      'returnRoutedExperts is 1; expected true or false',
    );
    const dense = await AutoModelForCausalLM.fromPretrained(
      join(import.meta.dirname, '../fixtures/dense/qwen3'),
    );
    await expect(dense.generate({ ...options, returnRoutedExperts: true })).rejects.toThrow(
      'has no routed experts',
    );
    await dense.dispose();
  });
});
