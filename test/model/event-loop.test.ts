import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { AutoModelForCausalLM, AutoTokenizer } from '../../src/index.ts';

const DEMO = join(import.meta.dirname, '../../configs/demo-model');

/** Milliseconds of processor time this thread has had (proc(5), schedstat): what others do on the machine does not count. */
const processorTime = () => Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[0]) / 1e6;

/** The processor time of one piece of work in one piece: parsing a text of JSON. */
function yardstick(): number {
  const text = JSON.stringify(Array.from({ length: 200_000 }, (_, i) => ({ name: `tensor.${i}`, at: i })));
  const started = processorTime();
  JSON.parse(text);
  return processorTime() - started;
}

/** Most processor time between two turns of the event loop while `work` runs. */
async function longestTurn(work: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let working = true;
  const watch = async () => {
    for (let last = processorTime(); working; ) {
      await setImmediate();
      const now = processorTime();
      longest = Math.max(longest, now - last);
      last = now;
    }
  };
  const watching = watch();
  await work();
  working = false;
  await watching;
  return longest;
}

// Only Linux tells the processor time of a thread.
it.runIf(process.platform === 'linux')('stays responsive while a model loads and generates', async () => {
  const loadAndGenerate = async () => {
    const model = await AutoModelForCausalLM.fromPretrained(DEMO);
    const tokenizer = await AutoTokenizer.fromPretrained(DEMO);
    await model.generate({ ...tokenizer('In the beginning'.repeat(20)), maxNewTokens: 40, eosTokenId: [] });
    await model.dispose();
  };
  const limit = 2 * yardstick();
  expect(await longestTurn(loadAndGenerate)).toBeLessThan(limit);
});
