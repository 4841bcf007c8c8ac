/** Hundreds of generations of all kinds at a time: each says what it says alone, and memory stays what it is. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { CausalLM } from '../../src/model/causal-lm.ts';
import { goldenModel } from '../helpers/goldens.ts';

/** `SWITCHYARD_SOAK_REQUESTS=2000` asks for more; then time is no object. */
const REQUESTS = Number(process.env.SWITCHYARD_SOAK_REQUESTS ?? 400);
const AT_A_TIME = 24;
const BACKENDS = ['grouped_mm', 'eager'];

let engine: Engine;
let together: CausalLM;
let alone: CausalLM;
beforeAll(async () => {
  const open = (options: object) =>
    loadModel(goldenModel('qwen3_moe_c'), { dtype: 'float32', threads: 2, ...options }, 'logits');
  const parts = await open({ prefixCache: { maxBytes: '8MB' }, maxCacheBytes: '5MB' });
  engine = parts.engine;
  together = new CausalLM(parts);
  alone = new CausalLM(await open({ prefixCache: false }));
});
afterAll(() => Promise.all([together.dispose(), alone.dispose()]));

let seed = 11;
const random = (below: number) => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return (seed >>> 8) % below;
};
const ids = (count: number) => Array.from({ length: count }, () => random(together.vocabSize));

interface Request {
  readonly options: Parameters<CausalLM['generate']>[0];
  /** Tokens after which it is aborted. */
  readonly abortAt: number | undefined;
}

/** Short and long, greedy and sampled, of either backend; half of them begin like others. */
function makeRequests(): Request[] {
  const beginnings = [40, 130, 300].map(ids);
  return Array.from({ length: REQUESTS }, (_, i) => {
    const shared = random(2) === 0 ? (beginnings[random(3)] as number[]) : [];
    const own = ids(1 + random(random(8) === 0 ? 180 : 60));
    const sampling = random(2) === 0 ? { doSample: true, seed: i, temperature: 0.9 } : { doSample: false };
    return {
      options: {
        ...{ inputIds: [[...shared, ...own]], maxNewTokens: 1 + random(16), eosTokenId: [], ...sampling },
        expertsImplementation: BACKENDS[random(2)] as string,
      },
      abortAt: i % 5 === 4 ? 1 + random(6) : undefined,
    };
  });
}

async function run({ options, abortAt }: Request): Promise<number[] | undefined> {
  const controller = new AbortController();
  let said = -1;
  const put = () => void (++said === abortAt && controller.abort());
  const streamer = { put, end: () => {} };
  const { signal } = controller;
  try {
    return (await together.generate({ ...options, ...(abortAt ? { streamer, signal } : {}) })).sequences[0];
  } catch (error) {
    if (controller.signal.aborted) return undefined;
    throw error;
  }
}

it('no generation can tell that there are others', { timeout: 3_600_000 }, async () => {
  const requests = makeRequests();
  const expected: (number[] | undefined)[] = [];
  for (const { options } of requests) expected.push((await alone.generate(options)).sequences[0]);
  const results: (number[] | undefined)[] = [];
  const cacheBytes: number[] = [];
  const residentBytes: number[] = [];
  let next = 0;
  const worker = async () => {
    while (next < requests.length) {
      const index = next++;
      results[index] = await run(requests[index] as Request);
      cacheBytes.push(engine.cacheBytes);
      residentBytes.push(process.memoryUsage.rss());
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
  const done = requests.flatMap((_, i) => (results[i] ? [i] : []));
  expect(done.length).toBeGreaterThan(REQUESTS * 0.75);
  expect(done.length).toBeLessThan(REQUESTS);
  for (const i of done) expect(results[i], `request ${i}`).toEqual(expected[i]);
  // What the requests of the first half needed is enough for the second.
  const half = cacheBytes.length / 2;
  const most = (part: number[]) => Math.max(...part);
  expect(most(cacheBytes.slice(half))).toBeLessThanOrEqual(1.05 * most(cacheBytes.slice(0, half)));
  // JavaScript's own heap takes a while until it grows no more.
  const quarter = Math.floor(residentBytes.length / 4);
  const third = most(residentBytes.slice(2 * quarter, 3 * quarter));
  const last = most(residentBytes.slice(3 * quarter));
  if (REQUESTS >= 2000) expect(last).toBeLessThanOrEqual(1.05 * third);
  const megabytes = (bytes: number) => Math.round(bytes / 1e6);
  console.log(
    `${done.length} of ${REQUESTS} requests answered, ${REQUESTS - done.length} aborted, ${engine.preemptions} preemptions; ` +
      `cache ${megabytes(most(cacheBytes))} MB, process ${megabytes(third)} and then ${megabytes(last)} MB at most`,
  );
});
