import { EngineError, ExpertsError } from '../errors.ts';
import type { ExpertsBackend, ExpertsContext } from '../experts/interface.ts';
import { CALLS, IMPLEMENTATIONS, SELECTOR } from '../experts/moe-experts.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import { Graph } from '../graph/graph.ts';
import type { DType } from '../graph/precision.ts';
import type { DecoderConfig, GraphOptions } from '../layers/types.ts';
import type { Architecture } from '../models/architecture.ts';
import { CheckpointWeights } from '../models/checkpoint-weights.ts';
import { Tensor } from '../runtime/ort.ts';
import { openSession } from '../runtime/session.ts';
import type { Session, WeightStore } from '../runtime/types.ts';
import type { Checkpoint } from '../safetensors/types.ts';
import type { CacheShape } from './kv-cache.ts';
import { type Prompt, positionAt } from './prompt.ts';

export type Head = GraphOptions['head'];

/** What distinguishes one graph of a loaded model from another. */
export interface GraphVariant {
  readonly head: Head;
  readonly intermediates: boolean;
  readonly visual: boolean;
}

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
  /** Past and present by `layer.key` and `layer.value`. */
  readonly cache: Readonly<Record<string, Tensor>>;
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

/** The sessions of a loaded decoder: one a graph variant, all over the same weights. */
export class DecoderRuntime {
  readonly config: DecoderConfig;
  readonly #architecture: Architecture;
  readonly #fullConfig: unknown;
  readonly #checkpoint: Checkpoint;
  readonly #store: WeightStore;
  readonly #dtype: DType;
  readonly #threads: number | undefined;
  readonly #sessions = new Map<string, Promise<Session>>();
  readonly #contexts: readonly ExpertsContext[];
  #disposed = false;

  /** @param options.contexts where the model's experts run: see `matchWeights` */
  constructor(
    architecture: Architecture,
    config: unknown,
    checkpoint: Checkpoint,
    store: WeightStore,
    options: { dtype: DType; threads?: number | undefined; contexts: readonly ExpertsContext[] },
  ) {
    this.#architecture = architecture;
    this.#fullConfig = config;
    this.config = architecture.text(config);
    this.#checkpoint = checkpoint;
    this.#store = store;
    this.#dtype = options.dtype;
    this.#threads = options.threads;
    this.#contexts = options.contexts.map((context) => ({ ...context, dtype: options.dtype }));
  }

  get cacheShape(): CacheShape {
    const { num_hidden_layers: layers, num_key_value_heads: kvHeads, head_dim: headDim } = this.config;
    return { layers, kvHeads, headDim };
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
  async prepare(variant: GraphVariant, experts: string): Promise<void> {
    await this.#session(variant, experts);
  }

  async run(run: DecoderRun, signal?: AbortSignal): Promise<DecoderRunResult> {
    const session = await this.#session(run, run.experts);
    const feeds = this.#feeds(run);
    const fetches: Record<string, Tensor | null> = {};
    for (const name of session.outputNames) fetches[name] = run.cache[name.replace('present.', '')] ?? null;
    const outputs = await session.run(feeds, fetches, signal ? { signal } : {});
    return { outputs, expertsCalls: this.#countCalls(run.experts, outputs[CALLS]?.data as BigInt64Array) };
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
    const selector = Math.max(0, (IMPLEMENTATIONS as readonly string[]).indexOf(run.experts));
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
  #session(variant: GraphVariant, experts: string): Promise<Session> {
    if (this.#disposed) throw new EngineError('the model was disposed; load it again with fromPretrained');
    const backend = ExpertsInterface.isBuiltIn(experts) ? '' : experts;
    const key = JSON.stringify([variant.head, variant.intermediates, variant.visual, backend]);
    let session = this.#sessions.get(key);
    if (!session) {
      session = this.#open(variant, ExpertsInterface.get(experts));
      this.#sessions.set(key, session);
      session.catch(() => this.#sessions.delete(key));
    }
    return session;
  }

  async #open(variant: GraphVariant, experts: ExpertsBackend): Promise<Session> {
    const graph = new Graph(new CheckpointWeights(this.#checkpoint, this.#store));
    const { head, intermediates, visual } = variant;
    const options: GraphOptions = { device: 'cpu', dtype: this.#dtype, experts, head, intermediates, visual };
    this.#architecture.buildGraph(graph, this.#fullConfig, options);
    const session = await openSession(graph.serialize(), {
      store: this.#store,
      boundInputs: graph.boundInputs,
      ...(this.#threads === undefined ? {} : { threads: this.#threads }),
    });
    this.#store.prefetch(graph.streamed);
    return session;
  }
}
