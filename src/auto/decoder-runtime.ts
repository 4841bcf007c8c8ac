import { EngineError, ExpertsError } from '../errors.ts';
import type { ExpertsBackend, ExpertsContext } from '../experts/interface.ts';
import { CALLS, IMPLEMENTATIONS, SELECTOR } from '../experts/moe-experts.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import { Graph } from '../graph/graph.ts';
import type { DType } from '../graph/precision.ts';
import type { DecoderConfig, GraphOptions } from '../layers/types.ts';
import type { Architecture } from '../models/architecture.ts';
import { CheckpointWeights } from '../models/checkpoint-weights.ts';
import type { DeviceWeights } from '../runtime/device.ts';
import { Tensor } from '../runtime/ort.ts';
import { openSession } from '../runtime/session.ts';
import type { RecordingSession, WeightStore } from '../runtime/types.ts';
import type { Checkpoint } from '../safetensors/types.ts';
import { DeviceSteps, type StepFeeds } from './device-steps.ts';
import type { CacheShape, CacheTensors } from './kv-cache.ts';
import { type Prompt, positionAt } from './prompt.ts';
import { StepGraphsPolicy } from './step-graphs.ts';

export type Head = GraphOptions['head'];

/** What distinguishes one graph of a loaded model from another. */
export interface GraphVariant {
  readonly head: Head;
  readonly intermediates: boolean;
  readonly visual: boolean;
}

/** Outputs that only runs with `candidates` fetch. */
const CANDIDATE_OUTPUTS: readonly string[] = ['candidate_logits', 'candidate_ids'];

/** One pass of a batch through the decoder. */
export interface DecoderRun extends GraphVariant {
  /** [rows][sequence]; all rows of one length. */
  readonly inputIds: readonly (readonly number[])[];
  /** The prompts the rows belong to, for their rotary positions. */
  readonly prompts: readonly Prompt[];
  /** Cache position of the first token of every row. */
  readonly starts: readonly number[];
  /** Real tokens of each row; the rest of the row is filler after them. */
  readonly lengths: readonly number[];
  /** Flattened positions whose logits are wanted; ignored without a `logits` head. */
  readonly logitsRows: readonly number[];
  /** How many of the highest logits of each wanted position to list; 0: no list. */
  readonly candidates?: number | undefined;
  /** Takes the logits, fp32 [wanted positions, vocab]; without it the engine makes a tensor. */
  readonly logits?: Tensor | undefined;
  /** Past and present by `layer.key` and `layer.value`. */
  readonly cache: CacheTensors;
  /** Name of the experts backend. */
  readonly experts: string;
  /** Inputs of the `visual` variant. */
  readonly visualFeeds?: Readonly<Record<string, Tensor>> | undefined;
}

export interface DecoderRunResult {
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** MoE layers executed in this run, by experts backend. */
  readonly expertsCalls: Readonly<Record<string, number>>;
}

/** Where and how the sessions of a loaded model compute. */
export interface EngineOptions {
  readonly dtype: DType;
  readonly threads?: number | undefined;
  /** The weights on a device; without them the CPU computes. */
  readonly weights?: DeviceWeights | undefined;
  /** Hears how far the upload of weights to the device is, in bytes. */
  readonly onUpload?: ((done: number, total: number) => void) | undefined;
  readonly onWarning?: ((message: string) => void) | undefined;
}

/** The sessions of a loaded decoder: one a graph variant, all over the same weights. */
export class DecoderRuntime {
  readonly config: DecoderConfig;
  readonly #architecture: Architecture;
  readonly #fullConfig: unknown;
  readonly #checkpoint: Checkpoint;
  readonly #store: WeightStore;
  readonly #engine: EngineOptions;
  readonly #graphs = new StepGraphsPolicy();
  readonly #steps = new WeakMap<CacheTensors, DeviceSteps>();
  readonly #sessions = new Map<string, Promise<RecordingSession>>();
  readonly #contexts: readonly ExpertsContext[];
  #disposed = false;

  /** @param options.contexts where the model's experts run: see `matchWeights` */
  constructor(
    architecture: Architecture,
    config: unknown,
    checkpoint: Checkpoint,
    store: WeightStore,
    options: EngineOptions & { contexts: readonly ExpertsContext[] },
  ) {
    this.#architecture = architecture;
    this.#fullConfig = config;
    this.config = architecture.text(config);
    this.#checkpoint = checkpoint;
    this.#store = store;
    this.#engine = options;
    this.#contexts = options.contexts.map((context) => ({ ...context, dtype: options.dtype }));
  }

  get cacheShape(): CacheShape {
    const { num_hidden_layers: layers, num_key_value_heads: kvHeads, head_dim: headDim } = this.config;
    return { layers, kvHeads, headDim, weights: this.#engine.weights };
  }

  /** The weights on a device; undefined on the CPU. */
  get weights(): DeviceWeights | undefined {
    return this.#engine.weights;
  }

  /** Records decode steps on a device and replays them, or stops doing so; without effect on the CPU. */
  setGraphs(enabled: boolean): void {
    this.#graphs.enabled = enabled;
  }

  /** Decode steps recorded so far. */
  get captures(): number {
    return this.#graphs.captures;
  }

  /** Why steps are not recorded although that was asked for; undefined while they are. */
  get graphsFault(): string | undefined {
    return this.#graphs.fault;
  }

  /** @throws ExpertsError when the backend cannot serve one of this model's layers */
  assertSupported(name: string): void {
    const backend = ExpertsInterface.get(name);
    for (const context of this.#contexts) {
      const supported = backend.supports(context);
      if (supported !== true)
        throw new ExpertsError(`The experts backend "${name}" cannot serve this model: ${supported}`);
    }
  }

  /** Opens the session of a variant ahead of its first run. */
  async prepare(variant: GraphVariant, experts: string, signal?: AbortSignal): Promise<void> {
    await this.#session(variant, experts, signal);
  }

  async run(run: DecoderRun, signal?: AbortSignal): Promise<DecoderRunResult> {
    const session = await this.#session(run, run.experts);
    const outputs =
      (await this.#graphStep(session, run, signal)) ?? (await this.#plainRun(session, run, signal));
    return { outputs, expertsCalls: this.#countCalls(run.experts, outputs[CALLS]?.data as BigInt64Array) };
  }

  async #plainRun(
    session: RecordingSession,
    run: DecoderRun,
    signal?: AbortSignal,
  ): Promise<Record<string, Tensor>> {
    const feeds = this.#feeds(run);
    const fetches: Record<string, Tensor | null> = {};
    for (const name of session.outputNames) {
      if (CANDIDATE_OUTPUTS.includes(name) && !run.candidates) continue;
      const target = name === 'logits' ? run.logits : run.cache[name.replace('present.', '')];
      fetches[name] = target ?? null;
    }
    return session.run(feeds, fetches, signal ? { signal } : {});
  }

  /** A decode step by recording or replaying it; undefined where it is to be run as any pass. */
  async #graphStep(
    session: RecordingSession,
    run: DecoderRun,
    signal?: AbortSignal,
  ): Promise<Record<string, Tensor> | undefined> {
    const { weights, onWarning } = this.#engine;
    if (!weights || !this.#graphs.active || !isStep(run)) return undefined;
    const steps = this.#steps.get(run.cache) ?? new DeviceSteps(weights.device, run.cache, this.#graphs);
    this.#steps.set(run.cache, steps);
    const rows = run.inputIds.length;
    const capacity = Object.values(run.cache)[0]?.dims[2] ?? 0;
    const key = { rows, capacity, implementation: run.experts, candidates: run.candidates ?? 0 };
    const action = steps.next(key);
    if (action.kind === 'run') return undefined;
    signal?.throwIfAborted();
    const step = this.#stepFeeds(run, key);
    if (action.kind === 'replay') return steps.replay(action.captured, step);
    try {
      return await steps.replay(await steps.capture(session, step), step);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      if (this.#graphs.fail(error.message))
        onWarning?.(`decode steps run without graphs, because recording one failed: ${error.message}`);
      return undefined;
    }
  }

  #stepFeeds(run: DecoderRun, key: StepFeeds['key']): StepFeeds {
    const feeds = this.#feeds(run);
    return {
      key,
      ids: feeds.input_ids?.data as BigInt64Array,
      positions: feeds.position_ids?.data as BigInt64Array,
      lastPositions: feeds.last_positions?.data as Int32Array,
      selector: selectorOf(run.experts),
      logits: run.logits as Tensor,
    };
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const opening of sessions) await opening.then((session) => session.dispose()).catch(() => {});
  }

  #feeds(run: DecoderRun): Record<string, Tensor> {
    const rows = run.inputIds.length;
    const sequence = run.inputIds[0]?.length ?? 0;
    const ids = new BigInt64Array(rows * sequence);
    const axes = this.#architecture.vision ? 3 : 1;
    const positions = new BigInt64Array(axes * rows * sequence);
    const last = new Int32Array(rows);
    let total = 0;
    for (let row = 0; row < rows; row++) {
      const start = run.starts[row] as number;
      for (let i = 0; i < sequence; i++) {
        ids[row * sequence + i] = BigInt((run.inputIds[row] as readonly number[])[i] as number);
        for (let axis = 0; axis < axes; axis++)
          positions[(axis * rows + row) * sequence + i] = BigInt(
            positionAt(run.prompts[row] as Prompt, start + i, axis),
          );
      }
      last[row] = start + (run.lengths[row] as number) - 1;
      total = Math.max(total, start + sequence);
    }
    const selector = selectorOf(run.experts);
    const feeds: Record<string, Tensor> = {
      input_ids: new Tensor('int64', ids, [rows, sequence]),
      position_ids: new Tensor('int64', positions, axes === 1 ? [rows, sequence] : [axes, rows, sequence]),
      last_positions: new Tensor('int32', last, [rows]),
      total_length: new Tensor('int32', Int32Array.of(total), []),
      [SELECTOR]: new Tensor('int32', Int32Array.of(selector), []),
    };
    if (run.head === 'logits') {
      feeds.logits_rows = new Tensor('int64', BigInt64Array.from(run.logitsRows, BigInt), [
        run.logitsRows.length,
      ]);
      feeds.candidates = new Tensor('int32', Int32Array.of(run.candidates ?? 0), []);
    }
    for (const [name, tensor] of Object.entries(run.cache)) feeds[`past_key_values.${name}`] = tensor;
    return { ...feeds, ...run.visualFeeds };
  }

  #countCalls(experts: string, counters: BigInt64Array): Record<string, number> {
    const calls: Record<string, number> = {};
    for (const [i, name] of IMPLEMENTATIONS.entries()) if (counters[i]) calls[name] = Number(counters[i]);
    // A registered backend is nodes of its own, without a counter: each of its layers runs once.
    if (!ExpertsInterface.isBuiltIn(experts)) calls[experts] = this.config.moe_layers.filter(Boolean).length;
    return calls;
  }

  /** Built-in backends share a session: the selector tells them apart on each run. */
  #session(variant: GraphVariant, experts: string, signal?: AbortSignal): Promise<RecordingSession> {
    if (this.#disposed) throw new EngineError('the model was disposed; load it again with fromPretrained');
    const backend = ExpertsInterface.isBuiltIn(experts) ? '' : experts;
    const key = JSON.stringify([variant.head, variant.intermediates, variant.visual, backend]);
    let session = this.#sessions.get(key);
    if (!session) {
      session = this.#open(variant, ExpertsInterface.get(experts), signal);
      this.#sessions.set(key, session);
      session.catch(() => this.#sessions.delete(key));
    }
    return session;
  }

  async #open(
    variant: GraphVariant,
    experts: ExpertsBackend,
    signal?: AbortSignal,
  ): Promise<RecordingSession> {
    const graph = new Graph(new CheckpointWeights(this.#checkpoint, this.#store));
    const { head, intermediates, visual } = variant;
    const { dtype, threads, weights, onUpload } = this.#engine;
    const device = weights ? 'cuda' : 'cpu';
    const options: GraphOptions = { device, dtype, experts, head, intermediates, visual };
    this.#architecture.buildGraph(graph, this.#fullConfig, options);
    const session = await openSession(graph.serialize(), {
      store: this.#store,
      boundInputs: graph.boundInputs,
      weights,
      ...(threads === undefined ? {} : { threads }),
    });
    try {
      if (weights) await weights.upload(onUpload, signal);
      else this.#store.prefetch(graph.streamed);
    } catch (error) {
      await session.dispose();
      throw error;
    }
    return session;
  }
}

/** One new token a row, with logits that stay on the device. */
function isStep(run: DecoderRun): boolean {
  const isPlain = run.head === 'logits' && !run.intermediates && !run.visual;
  return isPlain && run.inputIds[0]?.length === 1 && run.logits?.location === 'gpu-buffer';
}

/** Value of the experts selector; without effect for a registered backend, which is nodes of its own. */
function selectorOf(experts: string): number {
  return Math.max(0, (IMPLEMENTATIONS as readonly string[]).indexOf(experts));
}
