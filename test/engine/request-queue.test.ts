/** The queue by itself: who is in a pass is settled when its turn has come. */
import { expect, it } from 'vitest';
import { LogitsBuffers } from '../../src/engine/logits-buffers.ts';
import { RequestQueue } from '../../src/engine/request-queue.ts';
import { Sequence } from '../../src/engine/sequence.ts';

it('a request that is aborted while its pass waits for a turn takes nothing of the cache', async () => {
  const begun: Sequence[] = [];
  const admitted: unknown[] = [];
  let take = () => {};
  const turn = new Promise<void>((resolve) => {
    take = resolve;
  });
  let tell = () => {};
  const done = new Promise<void>((resolve) => {
    tell = resolve;
  });
  const queue = new RequestQueue(
    async (prepare) => {
      await turn;
      await prepare({
        begin: (sequence) => void begun.push(sequence),
        admit: (groups) => {
          admitted.push(...groups);
          return [];
        },
      });
      tell();
      return undefined;
    },
    new LogitsBuffers(8, undefined),
    () => ({ tokens: 512, besideDecoding: 512 }),
  );
  const controller = new AbortController();
  const experts = { requested: () => 'eager', choose: () => 'eager' };
  const sequences = [new Sequence({ ids: [1, 2] }, { blocks: [], slot: -1 }, 'eager')];
  const asked = queue.ask({ sequences, candidates: 1, experts, signal: controller.signal }, false);
  // A moment later the pass has been asked for.
  await Promise.resolve();
  controller.abort();
  await expect(asked).rejects.toMatchObject({ name: 'AbortError' });
  take();
  await done;
  expect(begun).toEqual([]);
  expect(admitted).toEqual([]);
});

it('a request that is aborted in the midst of its rows fails none of those that share its passes', async () => {
  const controller = new AbortController();
  const passes: number[] = [];
  const queue = new RequestQueue(
    async (prepare) => {
      const prepared = await prepare({ begin: () => {}, admit: (groups) => groups.map(({ of }) => of) });
      if (!prepared) return undefined;
      const { chunks } = prepared.pass;
      passes.push(chunks.length);
      for (const { sequence, tokens } of chunks) sequence.computed += tokens;
      // Of the first request one row is answered, and the other is in this pass.
      if (passes.length === 2) controller.abort();
      const rows = new Float32Array(chunks.length);
      return {
        ...{ outputs: {}, expertsCalls: {} },
        candidates: { count: 1, values: rows, ids: new Int32Array(chunks.length).fill(7) },
      };
    },
    new LogitsBuffers(8, undefined),
    () => ({ tokens: 3, besideDecoding: 3 }),
  );
  const experts = { requested: () => 'eager', choose: () => 'eager' };
  const sequence = () => new Sequence({ ids: [1, 2] }, { blocks: [], slot: -1 }, 'eager');
  const { signal } = controller;
  const first = queue.ask({ sequences: [sequence(), sequence()], candidates: 1, experts, signal }, false);
  const second = queue.ask({ sequences: [sequence(), sequence()], candidates: 1, experts }, false);
  await expect(first).rejects.toMatchObject({ name: 'AbortError' });
  expect([...(await second).ids]).toEqual([7, 7]);
  expect(passes[1]).toBeGreaterThan(1);
});
