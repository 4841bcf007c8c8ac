import * as io from '../models/io.ts';
import { CapturedRun, type Device, type DeviceMemory } from '../runtime/device.ts';
import { Tensor } from '../runtime/ort.ts';
import type { RecordingSession } from '../runtime/types.ts';
import type { BatchInput } from './batch.ts';
import type { CacheTensors } from './cache/slab.ts';
import { type RecordingPolicy, Recordings, type StepAction, type StepKey } from './recording-policy.ts';

/** A decode step: one token per row. */
export interface Step {
  readonly key: StepKey;
  /** Those of wide elements first, so that all are aligned one after the other. */
  readonly inputs: readonly BatchInput[];
  readonly cache: CacheTensors;
  /** Value of the experts selector. */
  readonly selector: number;
  /** Takes the logits on the device, fp32 [rows, vocab]. */
  readonly logits: Tensor;
}

interface Recorded {
  readonly run: CapturedRun;
  /** Calls of `MoeExperts` that a replay stands for, by implementation. */
  readonly calls: readonly number[];
  readonly inputs: DeviceMemory;
  readonly outputs: readonly {
    readonly name: string;
    readonly memory: DeviceMemory;
    readonly bytes: number;
  }[];
}

/**
 * Decode steps recorded on a device. The inputs of each lie side by side in one piece of device memory and its outputs in others,
 * so that a replay is one copy there, one launch, and one small copy back for each output.
 */
export class RecordedSteps {
  readonly #device: Device;
  readonly #recordings: Recordings<Recorded>;
  /** Recordings that the device is not through with yet. */
  readonly #leaving = new Set<Promise<void>>();

  constructor(device: Device, policy: RecordingPolicy) {
    this.#device = device;
    this.#recordings = new Recordings(policy, (recorded) => this.#free(recorded));
  }

  /** Whether the next step of this kind is to be recorded, replayed or run as any pass. */
  next(key: StepKey): StepAction<Recorded> {
    return this.#recordings.next(key);
  }

  /** Gives up all recordings; each is freed when the device is through with it. */
  clear(): void {
    this.#recordings.clear();
  }

  /** Frees all recordings, and waits for that: until then they keep the device open. */
  async dispose(): Promise<void> {
    this.clear();
    await Promise.all(this.#leaving);
  }

  #free({ run, inputs, outputs }: Recorded): void {
    const leaving: Promise<void> = run
      .release()
      .catch(() => {})
      .finally(() => this.#leaving.delete(leaving));
    this.#leaving.add(leaving);
    inputs.dispose();
    for (const { memory } of outputs) memory.dispose();
  }

  /** @throws EngineError where the step cannot be recorded */
  async capture(session: RecordingSession, step: Step): Promise<Recorded> {
    const { rows, candidates } = step.key;
    const opened: DeviceMemory[] = [];
    const allocate = async (bytes: number, what: string) => {
      const memory = await this.#device.allocate(bytes, what);
      opened.push(memory);
      return memory;
    };
    try {
      const bytes = inputBytes(step.inputs);
      const inputs = await allocate(bytes.length, 'the inputs of a step');
      await inputs.write(bytes);
      const feeds = stepFeeds(inputs, step);
      const fetches: Record<string, Tensor> = { [io.LOGITS]: step.logits };
      for (const [state, tensor] of step.cache) {
        feeds[io.pastName(state)] = tensor;
        fetches[io.presentName(state)] = tensor;
      }
      const outputs: Recorded['outputs'][number][] = [];
      const fetch = async (name: string, type: 'float32' | 'int32', dims: number[]) => {
        const bytes = dims.reduce((a, b) => a * b, 4);
        const memory = await allocate(bytes, 'the outputs of a step');
        outputs.push({ name, memory, bytes });
        fetches[name] = memory.tensor(type, dims);
      };
      if (candidates > 0) {
        await fetch(io.CANDIDATE_LOGITS.name, 'float32', [rows, candidates]);
        await fetch(io.CANDIDATE_IDS.name, 'int32', [rows, candidates]);
      }
      const recording = await session.capture(feeds, fetches);
      const run = new CapturedRun(this.#device, recording.run);
      const recorded = { run, calls: recording.expertsCalls, inputs, outputs };
      this.#recordings.captured(step.key, recorded);
      return recorded;
    } catch (error) {
      for (const memory of opened) memory.dispose();
      throw error;
    }
  }

  /** The step's outputs but the cache, and its calls; the logits stay on the device. */
  async replay({ run, calls, inputs, outputs }: Recorded, step: Step) {
    const { rows, candidates } = step.key;
    const buffers = await run.replay(inputs, inputBytes(step.inputs), outputs);
    this.#recordings.replayed();
    const results: Record<string, Tensor> = { [io.LOGITS]: step.logits };
    for (const [i, { name }] of outputs.entries()) {
      const buffer = buffers[i] as ArrayBuffer;
      if (name === io.CANDIDATE_IDS.name)
        results[name] = new Tensor('int32', new Int32Array(buffer), [rows, candidates]);
      else results[name] = new Tensor('float32', new Float32Array(buffer), [rows, candidates]);
    }
    return { outputs: results, calls };
  }
}

/** Inputs as they lie on the device. */
function inputBytes(inputs: readonly BatchInput[]): Uint8Array {
  return Buffer.concat(
    inputs.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
  );
}

/** The inputs of a step but the cache, as they lie in device memory. */
function stepFeeds(memory: DeviceMemory, { key, inputs, selector }: Step): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = {
    [io.CANDIDATES.name]: new Tensor('int32', Int32Array.of(key.candidates), []),
    [io.EXPERTS_IMPLEMENTATION.name]: new Tensor('int32', Int32Array.of(selector), []),
  };
  let offset = 0;
  for (const { name, data, dims } of inputs) {
    feeds[name] = memory.tensor(data instanceof BigInt64Array ? 'int64' : 'int32', dims, offset);
    offset += data.byteLength;
  }
  return feeds;
}
