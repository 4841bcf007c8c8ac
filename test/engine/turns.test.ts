import { describe, expect, it } from 'vitest';
import { Turns } from '../../src/engine/turns.ts';
import { AbortError } from '../../src/errors.ts';
import { collectGarbage } from '../helpers/memory.ts';

/** Work that ends when told to. */
function held() {
  let end = () => {};
  const done = new Promise<void>((resolve) => {
    end = resolve;
  });
  return { work: () => done, end };
}

describe('turns', () => {
  it('are taken one at a time, in order, past failures', async () => {
    const turns = new Turns();
    const log: string[] = [];
    const first = held();
    const work = (name: string) => async () => {
      log.push(name);
      if (name === 'b') throw new Error('b fails');
      return name;
    };
    const results = [turns.take(first.work), turns.take(work('b')), turns.take(work('c'))];
    results[1]?.catch(() => {});
    await Promise.resolve();
    expect(log).toEqual([]);
    first.end();
    await expect(results[1]).rejects.toThrow('b fails');
    expect(await results[2]).toBe('c');
    expect(log).toEqual(['b', 'c']);
  });

  it('can be given up while waiting, without letting the next one in early', async () => {
    const turns = new Turns();
    const first = held();
    const controller = new AbortController();
    const before = turns.take(first.work);
    let ran = false;
    const given = turns.take(
      async () => {
        ran = true;
      },
      controller.signal,
      'the pass',
    );
    let last = false;
    const after = turns.take(async () => {
      last = true;
    });
    controller.abort(new Error('enough'));
    await expect(given).rejects.toMatchObject({ name: 'AbortError', message: 'the pass was aborted' });
    await expect(given).rejects.toBeInstanceOf(AbortError);
    await new Promise((resolve) => setImmediate(resolve));
    expect(last).toBe(false);
    first.end();
    await Promise.all([before, after]);
    expect([ran, last]).toEqual([false, true]);
  });

  it('do not keep what came of them', async () => {
    const turns = new Turns();
    const results: WeakRef<object>[] = [];
    for (let turn = 0; turn < 3; turn++)
      results.push(new WeakRef(await turns.take(async () => ({ logits: new Float32Array(1000) }))));
    await turns.take(async () => {});
    // What a reference has been asked for lives until the event loop has turned.
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
    expect(results.map((result) => result.deref())).toEqual([undefined, undefined, undefined]);
  });
});
