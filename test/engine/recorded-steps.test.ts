import { describe, expect, test } from 'vitest';
import { RecordedSteps } from '../../src/engine/recorded-steps.ts';
import { RecordingPolicy } from '../../src/engine/recording-policy.ts';
import type { Device } from '../../src/runtime/device.ts';
import { Tensor } from '../../src/runtime/ort.ts';
import type { RecordingSession } from '../../src/runtime/types.ts';

/** A device that ends recordings when it is told to. */
function slowDevice() {
  const ending: (() => void)[] = [];
  const memory = { write: async () => {}, tensor: () => new Tensor('int32', [0], [1]), dispose() {} };
  const native = { release: () => new Promise<void>((end) => ending.push(end)) };
  return { device: { allocate: async () => memory, native } as unknown as Device, ending };
}

const session = { capture: async () => ({ run: {}, expertsCalls: [] }) } as unknown as RecordingSession;

async function record(steps: RecordedSteps, rows: number) {
  await steps.capture(session, {
    key: { rows, tableWidth: 4, buffer: 0, implementation: 'grouped_mm', candidates: 1 },
    inputs: [{ name: 'ids', data: Int32Array.of(1), dims: [1] }],
    cache: new Map(),
    selector: 0,
    logits: new Tensor('float32', [0], [1]),
  });
}

describe('recorded steps', () => {
  // A recording keeps its device open, and with that all of the device's memory.
  test('are gone from the device once they are disposed of, those given up before among them', async () => {
    const { device, ending } = slowDevice();
    const steps = new RecordedSteps(device, new RecordingPolicy());
    await record(steps, 1);
    steps.clear();
    await record(steps, 2);
    let disposed = false;
    const disposal = steps.dispose().then(() => {
      disposed = true;
    });
    expect(ending).toHaveLength(2);
    ending[1]?.();
    await new Promise(setImmediate);
    expect(disposed).toBe(false);
    ending[0]?.();
    await disposal;
  });
});
