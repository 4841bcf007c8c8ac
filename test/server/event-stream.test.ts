import { expect, it } from 'vitest';
import { eventStream, type ServerEvent } from '../../src/server/event-stream.ts';

it('what comes after a reader has gone is no fault, be it an event, a failure or time for a ping', async () => {
  for (const late of ['event', 'failure', 'ping']) {
    const faults: unknown[] = [];
    let come = () => {};
    const coming = new Promise<void>((resolve) => {
      come = resolve;
    });
    let [left, begun, ended] = [0, false, false];
    async function* events(): AsyncGenerator<ServerEvent, void, undefined> {
      begun = true;
      try {
        await coming;
        if (late === 'failure') throw new Error('too late');
        yield { data: 'too late' };
      } finally {
        ended = true;
      }
    }
    const failed = (error: unknown) => {
      faults.push(error);
      return { data: 'failed' };
    };
    const pingInterval = late === 'ping' ? 1 : 2 ** 30;
    const { body } = eventStream(events(), pingInterval, failed, () => left++);
    await expect.poll(() => begun).toBe(true);
    await body?.cancel();
    if (late === 'ping') await new Promise((resolve) => setTimeout(resolve, 20));
    come();
    await expect.poll(() => ended).toBe(true);
    await new Promise((resolve) => setImmediate(resolve));
    expect([faults, left]).toEqual([[], 1]);
  }
});
