import { CALLS, IMPLEMENTATIONS } from '../experts/moe-op.ts';
import * as io from '../models/io.ts';
import { CapturedRun, type Device, type DeviceMemory } from '../runtime/device.ts';
import { Tensor } from '../runtime/ort.ts';
import type { RecordingSession } from '../runtime/types.ts';
import { type CacheTensors, onCacheRelease } from './cache/kv-cache.ts';
import { type PassTokens, positionDims } from './pass.ts';
import { StepGraphs, type StepGraphsPolicy, type StepKey } from './recording-policy.ts';

/** Feeds of a decode step, one token a row. */
export interface StepFeeds extends PassTokens {
  readonly key: StepKey;
  /** Value of the experts selector. */
  readonly selector: number;
  /** Takes the logits on the device, fp32 [rows, vocab]. */
  readonly logits: Tensor;
}

interface Recorded {
  readonly run: CapturedRun;
  readonly outputs: readonly {
    readonly name: string;
    readonly memory: DeviceMemory;
    readonly bytes: number;
  }[];
}

/**
 * Recorded decode steps of one cache. Their inputs lie side by side in one piece of device memory and their outputs in
 * others, so that a replay is one copy there, one launch, and one small copy back an output.
 */
export class DeviceSteps {
  readonly #device: Device;
  readonly #cache: CacheTensors;
  readonly #graphs: StepGraphs<Recorded>;
  #inputs: DeviceMemory | undefined;
  #released = false;

  constructor(device: Device, cache: CacheTensors, policy: StepGraphsPolicy) {
    this.#device = device;
    this.#cache = cache;
    this.#graphs = new StepGraphs(policy, freeRecording);
    onCacheRelease(cache, () => {
      this.#released = true;
      this.#graphs.clear();
      this.#inputs?.dispose();
    });
  }

  /** Whether the next step of this kind is to be recorded, replayed or run as any pass. */
  next(key: StepKey) {
    return this.#graphs.next(key);
  }

  /** @throws EngineError where the step cannot be recorded */
  async capture(session: RecordingSession, step: StepFeeds): Promise<Recorded> {
    const { rows, candidates } = step.key;
    const feeds = await this.#openFeeds(step);
    const fetches: Record<string, Tensor> = { [io.LOGITS]: step.logits };
    for (const [name, tensor] of Object.entries(this.#cache)) {
      feeds[io.pastName(name)] = tensor;
      fetches[io.presentName(name)] = tensor;
    }
    const outputs: Recorded['outputs'][number][] = [];
    const fetch = async (name: string, type: 'float32' | 'int32' | 'int64', dims: number[]) => {
      const bytes = dims.reduce((a, b) => a * b, type === 'int64' ? 8 : 4);
      const memory = await this.#device.allocate(bytes, 'the outputs of a step');
      outputs.push({ name, memory, bytes });
      fetches[name] = memory.tensor(type, dims);
    };
    try {
      await fetch(CALLS, 'int64', [IMPLEMENTATIONS.length]);
      if (candidates > 0) {
        await fetch(io.CANDIDATE_LOGITS.name, 'float32', [rows, candidates]);
        await fetch(io.CANDIDATE_IDS.name, 'int32', [rows, candidates]);
      }
      const run = new CapturedRun(this.#device, await session.capture(feeds, fetches));
      const recorded = { run, outputs };
      if (this.#released) freeRecording(recorded);
      else this.#graphs.captured(step.key, recorded);
      return recorded;
    } catch (error) {
      for (const { memory } of outputs) memory.dispose();
      throw error;
    }
  }

  /** The inputs of a step but the cache: those that change in device memory, with the step's values. */
  async #openFeeds(step: StepFeeds): Promise<Record<string, Tensor>> {
    const { rows, candidates } = step.key;
    const axes = step.positions.length / rows;
    this.#inputs ??= await this.#device.allocate((8 * (2 + axes) + 4) * rows, 'the inputs of a step');
    const inputs = this.#inputs;
    await inputs.write(inputBytes(step));
    const afterIds = 8 * rows;
    const afterPositions = afterIds + 8 * axes * rows;
    return {
      [io.INPUT_IDS.name]: inputs.tensor('int64', [rows, 1]),
      [io.positionIds(axes).name]: inputs.tensor('int64', positionDims(axes, rows, 1), afterIds),
      [io.LOGITS_ROWS.name]: inputs.tensor('int64', [rows], afterPositions),
      [io.LAST_POSITIONS.name]: inputs.tensor('int32', [rows], afterPositions + 8 * rows),
      // Read on the host while recording; with one token a row nothing depends on the length.
      [io.TOTAL_LENGTH.name]: new Tensor('int32', Int32Array.of(1), []),
      [io.CANDIDATES.name]: new Tensor('int32', Int32Array.of(candidates), []),
      [io.EXPERTS_IMPLEMENTATION.name]: new Tensor('int32', Int32Array.of(step.selector), []),
    };
  }

  /** The step's outputs but the cache; the logits stay on the device. */
  async replay({ run, outputs }: Recorded, step: StepFeeds): Promise<Record<string, Tensor>> {
    const { rows, candidates } = step.key;
    const buffers = await run.replay(this.#inputs as DeviceMemory, inputBytes(step), outputs);
    this.#graphs.replayed();
    const results: Record<string, Tensor> = { [io.LOGITS]: step.logits };
    for (const [i, { name }] of outputs.entries()) {
      const buffer = buffers[i] as ArrayBuffer;
      if (name === CALLS)
        results[name] = new Tensor('int64', new BigInt64Array(buffer), [IMPLEMENTATIONS.length]);
      else if (name === io.CANDIDATE_IDS.name)
        results[name] = new Tensor('int32', new Int32Array(buffer), [rows, candidates]);
      else results[name] = new Tensor('float32', new Float32Array(buffer), [rows, candidates]);
    }
    return results;
  }
}

/** The inputs in the order they lie on the device. */
function inputBytes({ key, ids, positions, lastPositions }: StepFeeds): Uint8Array {
  const rows = BigInt64Array.from({ length: key.rows }, (_, row) => BigInt(row));
  const parts = [ids, positions, rows, lastPositions];
  return Buffer.concat(parts.map((part) => new Uint8Array(part.buffer, part.byteOffset, part.byteLength)));
}

function freeRecording({ run, outputs }: Recorded): void {
  // Nobody waits: the memory is given back when the device is through with it.
  run.release().catch(() => {});
  for (const { memory } of outputs) memory.dispose();
}
