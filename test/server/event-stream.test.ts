import { expect, it, vi } from 'vitest';
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
    const patience = { pingInterval: late === 'ping' ? 1 : 2 ** 30, sendTimeout: 2 ** 30 };
    const { body } = eventStream(events(), patience, failed, () => left++);
    await expect.poll(() => begun).toBe(true);
    await body?.cancel();
    if (late === 'ping') await new Promise((resolve) => setTimeout(resolve, 20));
    come();
    await expect.poll(() => ended).toBe(true);
    await new Promise((resolve) => setImmediate(resolve));
    expect([faults, left]).toEqual([[], 1]);
  }
});

it('a reader that takes nothing for too long is left, one that takes its time or waits for an event is not', async () => {
  vi.useFakeTimers();
  try {
    let [left, ended] = [0, false];
    async function* events(): AsyncGenerator<ServerEvent, void, undefined> {
      try {
        for (let i = 0; ; i++) {
          // An event may take longer than a reader.
          await new Promise((resolve) => setTimeout(resolve, 300));
          yield { data: `event ${i}` };
        }
      } finally {
        ended = true;
      }
    }
    const patience = { pingInterval: 2 ** 30, sendTimeout: 100 };
    const failed = () => ({ data: 'failed' });
    const { body } = eventStream(events(), patience, failed, () => left++);
    const reader = body?.getReader();
    for (let i = 0; i < 3; i++) {
      await vi.advanceTimersByTimeAsync(399);
      expect(new TextDecoder().decode((await reader?.read())?.value)).toBe(`data: event ${i}\n\n`);
    }
    expect([left, ended]).toEqual([0, false]);
    await vi.advanceTimersByTimeAsync(401);
    expect([left, ended]).toEqual([1, true]);
    await expect(reader?.read()).rejects.toThrow('its reader took nothing for 100 ms');
  } finally {
    vi.useRealTimers();
  }
});
