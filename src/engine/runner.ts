import { abortIf, EngineError } from '../errors.ts';
import { IMPLEMENTATIONS } from '../experts/moe-op.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import type { Model } from '../models/architecture.ts';
import * as io from '../models/io.ts';
import { Tensor } from '../runtime/ort.ts';
import type { RecordingSession } from '../runtime/types.ts';
import { type Batch, type BatchInput, batchInputs } from './batch.ts';
import type { CacheTensors } from './cache/slab.ts';
import type { LogitsBuffer } from './logits-buffers.ts';
import type { EngineOptions } from './open-graph.ts';
import { RecordedSteps } from './recorded-steps.ts';
import { RecordingPolicy, type StepKey } from './recording-policy.ts';
import type { RoutingDetail } from './routing.ts';
import type { GraphVariant, Sessions } from './sessions.ts';

/** A batch, and what is wanted of it. */
export interface RunRequest extends GraphVariant {
  readonly batch: Batch;
  /** Past and present of every layer. */
  readonly cache: CacheTensors;
  /** Name of the experts backend. */
  readonly experts: string;
  /** How many of the highest logits of each wanted token to list; default 0. */
  readonly candidates?: number | undefined;
  /** Rows that take the logits; without them the engine makes a tensor. */
  readonly logits?:
    | { readonly buffer: LogitsBuffer; readonly first: number; readonly count: number }
    | undefined;
  /** Of a variant that gives the routing: whether the experts' weights are wanted, too. */
  readonly routingDetail?: RoutingDetail | undefined;
  readonly visualFeeds?: Readonly<Record<string, Tensor>> | undefined;
}

export interface RunResult {
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** MoE layers executed, by experts backend. */
  readonly expertsCalls: Readonly<Record<string, number>>;
}

/** Outputs that only passes with `candidates` fetch. */
const CANDIDATE_OUTPUTS: readonly string[] = [io.CANDIDATE_LOGITS.name, io.CANDIDATE_IDS.name];

/** Runs batches of a loaded decoder: by its sessions, or by replaying steps that were recorded on a device. */
export class Runner {
  readonly policy = new RecordingPolicy();
  readonly #model: Model;
  readonly #sessions: Sessions;
  readonly #options: EngineOptions;
  readonly #steps: RecordedSteps | undefined;

  constructor(model: Model, sessions: Sessions, options: EngineOptions) {
    this.#model = model;
    this.#sessions = sessions;
    this.#options = options;
    if (options.weights) this.#steps = new RecordedSteps(options.weights.device, this.policy);
  }

  /** Whether decode steps on a backend are recorded, as far as is known yet. */
  recordsSteps(experts: string): boolean {
    return this.#steps !== undefined && this.policy.records(experts);
  }

  /** Gives up all recordings: memory they point to is about to move. */
  forget(): void {
    this.#steps?.clear();
  }

  /** Frees all recordings. */
  async dispose(): Promise<void> {
    await this.#steps?.dispose();
  }

  async run(request: RunRequest, signal?: AbortSignal): Promise<RunResult> {
    const session = await this.#sessions.get(request, request.experts);
    const { outputs, calls } =
      (await this.#recordedRun(session, request, signal)) ?? (await this.#plainRun(session, request, signal));
    return { outputs, expertsCalls: this.#nameCalls(request.experts, calls) };
  }

  async #plainRun(session: RecordingSession, request: RunRequest, signal?: AbortSignal) {
    const { logits, cache } = request;
    const fetches: Record<string, Tensor | null> = {};
    const unwanted = this.#unwanted(request);
    for (const name of session.outputNames) if (!unwanted.has(name)) fetches[name] = null;
    for (const [state, tensor] of cache) fetches[io.presentName(state)] = tensor;
    if (logits) fetches[io.LOGITS] = logits.buffer.tensor(logits.first, logits.count);
    let calls: readonly number[] = [];
    const onExpertsCalls = (counted: readonly number[]) => {
      calls = counted;
    };
    const outputs = await session.run(this.#feeds(request), fetches, { signal, onExpertsCalls });
    return { outputs, calls };
  }

  /** Outputs of the request's graph that nobody wants this time. */
  #unwanted({ candidates, routingDetail }: RunRequest): ReadonlySet<string> {
    const weights =
      routingDetail === 'experts'
        ? (this.#model.routed?.layers ?? []).map((n) => io.routerWeights(n, 0).name)
        : [];
    return new Set([...(candidates ? [] : CANDIDATE_OUTPUTS), ...weights]);
  }

  /** All inputs of the request's graph. */
  #feeds({ batch, cache, experts, head, candidates = 0, visualFeeds }: RunRequest): Record<string, Tensor> {
    const feeds: Record<string, Tensor> = {
      [io.EXPERTS_IMPLEMENTATION.name]: new Tensor('int32', Int32Array.of(selectorOf(experts)), []),
      ...visualFeeds,
    };
    for (const input of batchInputs(batch, this.#model.caches))
      if (head === 'logits' || input.name !== io.LOGITS_ROWS.name) feeds[input.name] = inputTensor(input);
    if (head === 'logits') feeds[io.CANDIDATES.name] = new Tensor('int32', Int32Array.of(candidates), []);
    for (const [state, tensor] of cache) feeds[io.pastName(state)] = tensor;
    return feeds;
  }

  /** A decode step by recording or replaying it; undefined where it is to be run as any pass. */
  async #recordedRun(session: RecordingSession, request: RunRequest, signal?: AbortSignal) {
    const steps = this.#steps;
    if (!steps || !this.recordsSteps(request.experts) || !isDecodeStep(request)) return undefined;
    const key = stepKey(request);
    const action = steps.next(key);
    if (action.kind === 'run') return undefined;
    abortIf(signal, 'the step');
    const step = {
      ...{ key, cache: request.cache, selector: selectorOf(request.experts) },
      inputs: batchInputs(request.batch, this.#model.caches),
      logits: (request.logits as { buffer: LogitsBuffer }).buffer.tensor(0, key.rows),
    };
    if (action.kind === 'replay') return steps.replay(action.captured, step);
    try {
      return await steps.replay(await steps.capture(session, step), step);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      if (this.policy.fail(request.experts, error.message))
        this.#options.onWarning?.(
          `decode steps by ${request.experts} run without graphs, because recording one failed: ${error.message}`,
        );
      return undefined;
    }
  }

  #nameCalls(experts: string, counted: readonly number[]): Record<string, number> {
    const calls: Record<string, number> = {};
    for (const [i, name] of IMPLEMENTATIONS.entries()) if (counted[i]) calls[name] = counted[i];
    // A registered backend is nodes of its own, without a counter: each of its layers runs once.
    if (!ExpertsInterface.isBuiltIn(experts)) calls[experts] = this.#model.routed?.layers.length ?? 0;
    return calls;
  }
}

function inputTensor({ data, dims }: BatchInput): Tensor {
  return data instanceof BigInt64Array ? new Tensor('int64', data, dims) : new Tensor('int32', data, dims);
}

/** Whether a pass is one new token per row with logits that stay where they are: such passes can be recorded. */
function isDecodeStep({ batch, head, intermediates, visual, logits, routing }: RunRequest): boolean {
  const isPlain = head === 'logits' && !intermediates && !visual && !routing && logits !== undefined;
  const rows = batch.pastLengths.length;
  const isStep = batch.ids.length === rows && batch.pastLengths.every((past) => past > 0);
  return isPlain && isStep && batch.wanted.length === rows;
}

function stepKey({ batch, experts, candidates, logits }: RunRequest): StepKey {
  const rows = batch.pastLengths.length;
  return {
    rows,
    tableWidth: batch.blockTables.length / rows,
    buffer: logits?.buffer.id ?? 0,
    implementation: experts,
    candidates: candidates ?? 0,
  };
}

/** Value of the experts selector; without effect for a registered backend, which is nodes of its own. */
function selectorOf(experts: string): number {
  return Math.max(0, (IMPLEMENTATIONS as readonly string[]).indexOf(experts));
}
