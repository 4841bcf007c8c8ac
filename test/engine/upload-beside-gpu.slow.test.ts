/** Weights go to a GPU while graphs are built and sessions open: what the one does when the other fails. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { loadModel } from '../../src/auto/load-model.ts';
import type { Head } from '../../src/engine/sessions.ts';
import { AbortError, AutoModelForCausalLM, ExpertsInterface, type LoadOptions } from '../../src/index.ts';
import { listDevices } from '../../src/runtime/device.ts';
import { useEmulatedGpu } from '../helpers/emulated-gpu.ts';
import { goldenModel, HYBRID_MODELS, TEXT_MODELS } from '../helpers/goldens.ts';

const NAME = 'qwen3_moe_d';
const SEEING = ['qwen3_vl_moe_e', 'qwen3_omni_moe_l'];

/** What happens before a session opens, and how many have been opened and not disposed of. */
const sessions = vi.hoisted(() => ({ before: async () => {}, opened: 0 }));
vi.mock('../../src/runtime/session.ts', async (original) => {
  const real = await original<typeof import('../../src/runtime/session.ts')>();
  return {
    ...real,
    openSession: async (...args: Parameters<typeof real.openSession>) => {
      await sessions.before();
      const session = await real.openSession(...args);
      const { dispose } = session;
      sessions.opened++;
      session.dispose = () => {
        sessions.opened--;
        return dispose.call(session);
      };
      return session;
    },
  };
});

const load = (options: LoadOptions = {}) =>
  AutoModelForCausalLM.fromPretrained(goldenModel(NAME), { dtype: 'float32', device: 'cuda', ...options });
const usedBytes = async () => {
  const [device] = await listDevices();
  return device ? device.totalBytes - device.freeBytes : Number.NaN;
};
/** Of a model's weights on the GPU. */
async function residentBytes(name: string, head: Head, kind: 'text' | 'image-text', options: LoadOptions) {
  const all: LoadOptions = { dtype: 'float32', device: 'cuda', ...options };
  const { engine, release } = await loadModel(goldenModel(name), all, head, kind);
  const bytes = engine.weights?.stats.residentBytes;
  await release();
  return bytes;
}

/** Something that is waited for, and what brings it about. */
function gate() {
  let open = () => {};
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, passed };
}

// The emulator switches threads with ucontext, which only Linux still offers in full.
describe.skipIf(process.platform !== 'linux')('on an emulated GPU', () => {
  useEmulatedGpu();
  afterEach(() => {
    sessions.before = async () => {};
  });
  const expectNothingLeft = async () => {
    expect(sessions.opened).toBe(0);
    expect(await usedBytes()).toBe(0);
  };

  it('all weights can be there before a session begins to open, and are told of as they come', async () => {
    const { open, passed } = gate();
    const told: [done: number, total: number][] = [];
    sessions.before = () => passed;
    const model = await load({
      onProgress: ({ stage, totalLoadedBytes, totalBytes }) => {
        if (stage !== 'load') return;
        told.push([totalLoadedBytes, totalBytes]);
        if (totalLoadedBytes === totalBytes) open();
      },
    });
    expect(told.length).toBeGreaterThan(1);
    expect(new Set(told.map(([, total]) => total)).size).toBe(1);
    expect(told.map(([done]) => done)).toEqual(told.map(([done]) => done).sort((a, b) => a - b));
    expect(told.at(-1)?.[0]).toBe(told.at(-1)?.[1]);
    await model.dispose();
    await expectNothingLeft();
  });

  it('a session that does not open ends the upload, and is what the caller hears of', async () => {
    const { open, passed } = gate();
    sessions.before = async () => {
      await passed;
      throw new RangeError('of the session');
    };
    const onProgress = vi.fn(open);
    await expect(load({ onProgress })).rejects.toThrow(new RangeError('of the session'));
    expect(onProgress).toHaveBeenCalled();
    await expectNothingLeft();
    const calls = onProgress.mock.calls.length;
    sessions.before = async () => {};
    await (await load()).dispose();
    expect(onProgress).toHaveBeenCalledTimes(calls);
  });

  it('an upload that fails while a session opens is what the caller hears of', async () => {
    const { open, passed } = gate();
    sessions.before = () => passed;
    const onProgress = () => {
      open();
      throw new RangeError('of the listener');
    };
    await expect(load({ onProgress })).rejects.toThrow(new RangeError('of the listener'));
    await expectNothingLeft();
  });

  it('a GPU without room refuses before a session has opened, and names what has none', async () => {
    vi.stubEnv('SWITCHYARD_EMULATED_MEMORY', '200000');
    await expect(load()).rejects.toThrow(/tensor '\S+' \(.* is the first without room/);
    vi.unstubAllEnvs();
    expect(sessions.opened).toBe(0);
  });

  it('an abort ends both', async () => {
    const abort = new AbortController();
    const { open, passed } = gate();
    sessions.before = () => passed;
    const onProgress = () => {
      abort.abort();
      open();
    };
    await expect(load({ signal: abort.signal, onProgress })).rejects.toThrow(AbortError);
    await expectNothingLeft();
    const early = new AbortController();
    sessions.before = async () => early.abort();
    await expect(load({ signal: early.signal })).rejects.toThrow(AbortError);
    await expectNothingLeft();
  });

  it('what is checked after the device was opened gives it back', async () => {
    await expect(load({ maxCacheBytes: 1 })).rejects.toThrow(/maxCacheBytes/);
    await expectNothingLeft();
    await expect(load({ weights: 'packed' })).rejects.toThrow(/packed/);
    await expectNothingLeft();
    const noHead = { config: { vocab_size: 7 } };
    await expect(load(noHead)).rejects.toThrow(/vocab_size|mismatched/);
    await expectNothingLeft();
  });

  // Under a bound everything waits for the sessions.
  const BOUND = { maxMemory: '1TB' };

  it.each([...TEXT_MODELS, ...HYBRID_MODELS])('%s has no more there than its sessions need', async (name) => {
    for (const head of ['logits', 'last_hidden_state'] as const) {
      const bytes = await residentBytes(name, head, 'text', {});
      expect(bytes).toBeGreaterThan(0);
      expect(bytes).toBe(await residentBytes(name, head, 'text', BOUND));
    }
  });

  it.each(SEEING)('%s has no more there than its sessions need', async (name) => {
    const bytes = await residentBytes(name, 'logits', 'image-text', {});
    expect(bytes).toBeGreaterThan(0);
    expect(bytes).toBe(await residentBytes(name, 'logits', 'image-text', BOUND));
  });

  it('a backend of the caller has there what it uses', async () => {
    const grouped = ExpertsInterface.get('grouped_mm');
    const own = await residentBytes(NAME, 'logits', 'text', {});
    ExpertsInterface.register('callers', { supports: () => true, emit: grouped.emit });
    try {
      expect(await residentBytes(NAME, 'logits', 'text', { expertsImplementation: 'callers' })).toBe(own);
    } finally {
      ExpertsInterface.unregister('callers');
    }
  });
});
