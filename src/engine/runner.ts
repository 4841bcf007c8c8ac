import { isDeepStrictEqual } from 'node:util';
import { abortIf, EngineError, ExpertsError } from '../errors.ts';
import type { ExpertsContext } from '../experts/interface.ts';
import { CALLS, IMPLEMENTATIONS } from '../experts/moe-op.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import type { Model } from '../models/architecture.ts';
import * as io from '../models/io.ts';
import type { CacheSpec } from '../nn/cache-spec.ts';
import type { DeviceWeights } from '../runtime/device.ts';
import type { Tensor } from '../runtime/ort.ts';
import type { RecordingSession, WeightStore } from '../runtime/types.ts';
import type { Checkpoint } from '../safetensors/types.ts';
import { CheckpointWeights } from '../weights/checkpoint-weights.ts';
import { type CacheTensors, KvCache } from './cache/kv-cache.ts';
import { type EngineOptions, targetOf } from './open-graph.ts';
import {
  type DecoderPass,
  type DecoderPassResult,
  type GraphVariant,
  isDeviceStep,
  passFeeds,
  passTokens,
  selectorOf,
} from './pass.ts';
import { DeviceSteps, type StepFeeds } from './recorded-steps.ts';
import { StepGraphsPolicy, type StepKey } from './recording-policy.ts';
import { DecoderSessions } from './sessions.ts';

/** Outputs that only passes with `candidates` fetch. */
const CANDIDATE_OUTPUTS: readonly string[] = [io.CANDIDATE_LOGITS.name, io.CANDIDATE_IDS.name];

/** Runs passes of a loaded decoder: by its sessions, or by replaying steps that were recorded on a device. */
export class DecoderRuntime {
  readonly model: Model;
  readonly #engine: EngineOptions;
  readonly #sessions: DecoderSessions;
  readonly #contexts: readonly ExpertsContext[];
  readonly #graphs = new StepGraphsPolicy();
  readonly #steps = new WeakMap<CacheTensors, DeviceSteps>();

  constructor(model: Model, checkpoint: Checkpoint, store: WeightStore, options: EngineOptions) {
    this.model = model;
    this.#engine = options;
    this.#sessions = new DecoderSessions(model, checkpoint, store, options);
    this.#contexts = model.expertsContexts(new CheckpointWeights(checkpoint), targetOf(options));
  }

  /** The weights on a device; undefined on the CPU. */
  get weights(): DeviceWeights | undefined {
    return this.#engine.weights;
  }

  /** Records decode steps on a device and replays them, or stops doing so; without effect on the CPU. */
  setGraphs(enabled: boolean): void {
    this.#graphs.enabled = enabled;
  }

  /** Whether decode steps on a backend are recorded, as far as is known yet. */
  recordsSteps(experts: string): boolean {
    return this.weights !== undefined && this.#graphs.records(experts);
  }

  /** Decode steps recorded so far. */
  get captures(): number {
    return this.#graphs.captures;
  }

  /** Decode steps that a recording has executed so far. */
  get replays(): number {
    return this.#graphs.replays;
  }

  /** Why the steps of some backends are not recorded although that was asked for; undefined while all are. */
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
    await this.#sessions.get(variant, experts, signal);
  }

  /**
   * An empty cache for passes of `rows` rows, where the model computes.
   * @param limit most positions a row will ever hold
   * @throws EngineError after `dispose`
   */
  openCache(rows: number, limit: number): KvCache {
    this.#sessions.assertOpen();
    return new KvCache(rows, { ...uniformCache(this.model), weights: this.weights }, limit);
  }

  async run(pass: DecoderPass, signal?: AbortSignal): Promise<DecoderPassResult> {
    const session = await this.#sessions.get(pass, pass.experts);
    const outputs =
      (await this.#graphStep(session, pass, signal)) ?? (await this.#plainRun(session, pass, signal));
    return { outputs, expertsCalls: this.#countCalls(pass.experts, outputs[CALLS]?.data as BigInt64Array) };
  }

  /** Waits for runs in progress. */
  dispose(): Promise<void> {
    return this.#sessions.dispose();
  }

  async #plainRun(
    session: RecordingSession,
    pass: DecoderPass,
    signal?: AbortSignal,
  ): Promise<Record<string, Tensor>> {
    const present = Object.entries(pass.cache).map(([state, tensor]) => [io.presentName(state), tensor]);
    const targets: Record<string, Tensor | undefined> = Object.fromEntries(present);
    const fetches: Record<string, Tensor | null> = {};
    for (const name of session.outputNames) {
      if (CANDIDATE_OUTPUTS.includes(name) && !pass.candidates) continue;
      fetches[name] = (name === io.LOGITS ? pass.logits : targets[name]) ?? null;
    }
    return session.run(passFeeds(pass, this.model.positionAxes), fetches, signal ? { signal } : {});
  }

  /** A decode step by recording or replaying it; undefined where it is to be run as any pass. */
  async #graphStep(
    session: RecordingSession,
    pass: DecoderPass,
    signal?: AbortSignal,
  ): Promise<Record<string, Tensor> | undefined> {
    const { weights, onWarning } = this.#engine;
    if (!weights || !this.recordsSteps(pass.experts) || !isDeviceStep(pass)) return undefined;
    const steps = this.#steps.get(pass.cache) ?? new DeviceSteps(weights.device, pass.cache, this.#graphs);
    this.#steps.set(pass.cache, steps);
    const key = stepKey(pass);
    const action = steps.next(key);
    if (action.kind === 'run') return undefined;
    abortIf(signal, 'the step');
    const feeds = this.#stepFeeds(pass, key);
    if (action.kind === 'replay') return steps.replay(action.captured, feeds);
    try {
      return await steps.replay(await steps.capture(session, feeds), feeds);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      if (this.#graphs.fail(pass.experts, error.message))
        onWarning?.(
          `decode steps by ${pass.experts} run without graphs, because recording one failed: ${error.message}`,
        );
      return undefined;
    }
  }

  #stepFeeds(pass: DecoderPass, key: StepKey): StepFeeds {
    return {
      ...{ key, ...passTokens(pass, this.model.positionAxes) },
      selector: selectorOf(pass.experts),
      logits: pass.logits as Tensor,
    };
  }

  #countCalls(experts: string, counters: BigInt64Array): Record<string, number> {
    const calls: Record<string, number> = {};
    for (const [i, name] of IMPLEMENTATIONS.entries()) if (counters[i]) calls[name] = Number(counters[i]);
    // A registered backend is nodes of its own, without a counter: each of its layers runs once.
    if (!ExpertsInterface.isBuiltIn(experts)) calls[experts] = this.model.routed?.layers.length ?? 0;
    return calls;
  }
}

/** The one shape of all layers' keys and values. */
function uniformCache({ caches, modelType }: Model) {
  const [first] = caches;
  const isUniform = caches.every((spec) => isDeepStrictEqual(shapeOf(spec), shapeOf(first)));
  const shape = shapeOf(first);
  if (isUniform && shape) return { layers: caches.length, ...shape };
  throw new EngineError(
    `${modelType} keeps more than keys and values of one shape, which this engine cannot hold`,
  );
}

function shapeOf(spec: CacheSpec | undefined) {
  return spec?.kind === 'keys_values' ? { kvHeads: spec.kvHeads, headDim: spec.headDim } : undefined;
}

function stepKey(pass: DecoderPass): StepKey {
  return {
    rows: pass.inputIds.length,
    capacity: Object.values(pass.cache)[0]?.dims[2] ?? 0,
    implementation: pass.experts,
    candidates: pass.candidates ?? 0,
  };
}
