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
