import { inspect } from 'node:util';
import type { DType } from '../dtype.ts';
import { type CacheOwner, loadCache } from '../engine/cache-file.ts';
import type { SequenceKeeper } from '../engine/decoding.ts';
import { disposedError } from '../engine/open-graph.ts';
import type { Prompt } from '../engine/sequence.ts';
import {
  type BackendPolicy,
  type BackendReader,
  type BuiltInBackend,
  chooseBackend,
} from '../engine/tuning/policy.ts';
import { ExpertsError, expected, InputError } from '../errors.ts';
import { AUTO } from '../experts/moe-op.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import { applyExperts, type ExpertsSetting } from '../experts/resolve.ts';
import { checkIds, checkPrompts, type Prompts } from '../generation/prompt.ts';
import type { PromptRow } from '../generation/types.ts';
import { checkOptions, noMore } from '../options.ts';
import type { RoutingHeader, RoutingListener } from '../routing/record.ts';
import { Cache, checkCache, checkFile } from './cache.ts';
import type { Tuning } from './compile.ts';
import type { ModelParts } from './model-parts.ts';

/**
 * A backend name for everything, or names by sub-config; `""` speaks for what the map does not name. `vision_config` is a key of
 * models that see, as in transformers, but has no effect: a vision tower has no experts.
 */
export type ExpertsImplementation = ExpertsName | Readonly<Record<string, ExpertsName | null>>;

/**
 * A built-in experts backend, or one that has been registered. `auto` runs each pass on the built-in one that was measured to be fastest for
 * its tokens: measured at the first use, in about half a minute, and kept for the next time.
 */
export type ExpertsName = BuiltInBackend | 'auto' | (string & Record<never, never>);

/** How many tokens went to each expert. */
export interface RoutedTokens {
  /** Indices of the layers that route. */
  readonly layers: readonly number[];
  /** For each of them, tokens by expert. */
  readonly tokens: readonly Float64Array[];
}

export interface RoutingOptions {
  /** Whether records have the experts' weights. Default false. */
  readonly weights?: boolean;
}

/** What every loaded model has, whatever comes out of it. Counterpart of HF `PreTrainedModel`. */
export abstract class PreTrainedModel {
  /** Repo id or folder the model came from. */
  readonly nameOrPath: string;
  readonly modelType: string;
  /** The config.json in force, with the caller's overrides. */
  readonly config: Readonly<Record<string, unknown>>;
  /** generation_config.json as stored, or what config.json says of generation where there is none. */
  readonly generationConfig: Readonly<Record<string, unknown>>;
  /** Precision of the computation. */
  readonly dtype: DType;
  /** Most positions a sequence may have: the model's own limit, or `maxCacheLength` if that is less. */
  readonly contextLength: number;
  protected readonly parts: ModelParts;
  /** What autotuning found, while a mode that asks for it is in force. */
  protected tuning: Tuning | undefined;
  /** What was measured for `auto`, once that was asked for. */
  protected autoTuning: Tuning | undefined;
  #experts: ExpertsSetting;
  #disposed: Promise<void> | undefined;

  constructor(parts: ModelParts) {
    this.parts = parts;
    this.nameOrPath = parts.idOrFolder;
    this.modelType = parts.model.modelType;
    this.config = parts.config;
    this.generationConfig = parts.generationConfig.json;
    this.dtype = parts.dtype;
    this.contextLength = parts.contextLength;
    this.#experts = parts.experts;
  }

  /** The backends in force: `""` for the model as a whole, and one entry a sub-config. */
  getExpertsImplementation(): Record<string, string> {
    return { ...this.#experts };
  }

  /**
   * Changes the backends, from the next step of every generation on that has not pinned its own. Weights and sessions stay.
   *
   * @param request a name for everything, or names by sub-config. `""` sets the model and every sub-config the map does not
   *   name; without it only what is named changes.
   * @throws ExpertsError for an unknown name or key, or a backend that cannot serve this model; nothing changes then
   */
  setExpertsImplementation(request: ExpertsImplementation, ...rest: never[]): void {
    noMore(rest, 'setExpertsImplementation', 'name several backends in one map');
    this.#assertAlive();
    const setting = applyExperts(this.#experts, request, this.parts.expertsModel);
    this.parts.engine.assertSupported(textBackend(setting));
    this.#experts = setting;
  }

  /** The backend the text model is set to. */
  protected get textBackend(): string {
    return textBackend(this.#experts);
  }

  /** What decides, as things are now, which backend executes a pass. */
  protected get policy(): BackendPolicy {
    const { engine, model, decodeWithBatchedMm } = this.parts;
    return {
      device: engine.weights ? 'cuda' : 'cpu',
      topK: model.routed?.perToken ?? 0,
      decodeWithBatchedMm,
      table: this.tuning?.table,
      autoTable: this.autoTuning?.table,
      recordsSteps: (backend) => engine.recordsSteps(backend),
    };
  }

  /**
   * Calls `listener` after every pass for each of its rows: which experts the row's tokens went to. Passes pay for it only while somebody
   * listens; on a GPU, decode steps are then not replayed from recordings.
   * @param options `weights`: also how much each expert counts. Default false
   * @throws InputError for another event, and for a model without routed experts
   */
  on(event: 'routing', listener: RoutingListener, options: RoutingOptions = {}): this {
    checkListener(event, listener);
    checkOptions(options, ['weights'], 'on');
    this.#assertAlive();
    this.assertRouted();
    this.parts.engine.routing.add(listener, options.weights ? 'weights' : 'experts');
    return this;
  }

  #assertAlive(): void {
    if (this.#disposed) throw disposedError();
  }

  /** @throws InputError for a model without routed experts */
  protected assertRouted(): void {
    if (!this.parts.model.routed)
      throw new InputError(`${this.nameOrPath} has no routed experts; there is no routing to hear of`);
  }

  /** Ends what `on` began. */
  off(event: 'routing', listener: RoutingListener): this {
    checkListener(event, listener);
    this.parts.engine.routing.remove(listener);
    return this;
  }

  /**
   * How many tokens each layer has sent to each of its experts since the model was loaded, whether anybody listens or not. Not counted on
   * a GPU, where all are 0.
   */
  async routedTokens(): Promise<RoutedTokens> {
    const { engine, model } = this.parts;
    const { layers, count } = model.routed ?? { layers: [], count: 0 };
    const counted = engine.routerCounts();
    return { layers, tokens: layers.map((layer) => counted.get(layer)?.tokens ?? new Float64Array(count)) };
  }

  /** What a file of routing records has to say of the model. */
  get routingHeader(): RoutingHeader {
    const { engine, model } = this.parts;
    const { layers, count, perToken } = model.routed ?? { layers: [], count: 0, perToken: 0 };
    return {
      ...{ model: this.nameOrPath, modelType: this.modelType, dtype: this.dtype, backend: this.textBackend },
      ...{ layers, experts: count, perToken, expertBytes: engine.expertBytes },
    };
  }

  /** A cache without tokens, which calls of this model fill: `generate({ …, cache })`. */
  createCache(...rest: never[]): Cache {
    noMore(rest, 'createCache', 'call it without any');
    this.#assertAlive();
    return new Cache(this.parts.engine, this.#cacheOwner);
  }

  /**
   * Reads a cache that `cache.save` of this model has written; where it was loaded from, and whether it is on a GPU, does not matter.
   * @throws CheckpointError for a file that is damaged, or written by another model; HubError where it cannot be read
   */
  async loadCache(file: string, ...rest: never[]): Promise<Cache> {
    noMore(rest, 'loadCache', 'the file is all it takes');
    checkFile(file, 'loadCache');
    this.#assertAlive();
    const { engine } = this.parts;
    const kept = await loadCache(file, engine.kept, await this.#cacheOwner());
    return new Cache(engine, this.#cacheOwner, kept);
  }

  /**
   * Calls `run` with the rows, or, where there is a cache, with the one row that begins with its tokens and ends with the given ones.
   * @param where names the call, for messages
   */
  protected async afterCache<T>(
    rows: readonly Prompt[],
    cache: unknown,
    where: string,
    run: (rows: readonly Prompt[], keeper?: SequenceKeeper) => Promise<T>,
  ): Promise<T> {
    if (cache === undefined) return run(rows);
    checkCache(cache, where);
    const [row, ...more] = rows as [Prompt, ...Prompt[]];
    if (more.length > 0)
      throw new InputError(`${where}: cache holds one sequence, but inputIds has ${rows.length} rows`);
    const keeper = cache.lend(this.parts.engine, where);
    try {
      const ids = [...keeper.kept.ids, ...row.ids];
      if (ids.length > this.contextLength)
        throw new InputError(
          `${where}: the cache's ${keeper.kept.ids.length} tokens and the row's ${row.ids.length} are more than the context of ${this.contextLength}`,
        );
      const positions = this.parts.model.promptPositions?.(ids.length);
      return await run([{ ids, ...(positions && { positions }) }], keeper);
    } finally {
      keeper.end();
    }
  }

  readonly #cacheOwner = async (): Promise<CacheOwner> => ({
    identity: await this.parts.identity(),
    name: this.nameOrPath,
    vocabSize: this.parts.model.vocabSize,
    contextLength: this.contextLength,
  });

  /** Waits for runs in progress, then frees sessions and weights. The model cannot be used afterwards. Idempotent. */
  async dispose(...rest: never[]): Promise<void> {
    noMore(rest, 'dispose', 'call it without any');
    this.#disposed ??= this.parts.release();
    return this.#disposed;
  }

  /** As `dispose`: `await using model = …`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** One line for `console.log`. */
  [inspect.custom](): string {
    const { device } = this.parts.engine.weights ?? {};
    const experts = Object.entries(this.#experts).map(([key, name]) =>
      key === '' ? name : `${key}=${name}`,
    );
    const where = `${this.dtype} on ${device?.name ?? 'the CPU'}`;
    return `${this.constructor.name}(${this.nameOrPath}: ${this.modelType}, ${where}, experts ${experts.join(', ')}, context ${this.contextLength})`;
  }

  /**
   * Says for each pass which backend executes it: the text model's as it then is, or as a call pinned it, or what stands for it by
   * `chooseBackend`.
   */
  protected async backendReader(pinned: unknown, signal?: AbortSignal): Promise<BackendReader> {
    const reader = this.#backendReader(pinned);
    if (reader.requested() === AUTO) await this.measureForAuto(signal);
    return reader;
  }

  /** Has a table at hand for `auto`. Without an output head whole passes cannot be measured. */
  protected async measureForAuto(_: AbortSignal | undefined): Promise<void> {
    throw new ExpertsError(
      `${this.nameOrPath}: "auto" measures whole passes of a model with an output head, which this one has not. Choose a backend: ` +
        ExpertsInterface.names().join(', '),
    );
  }

  #backendReader(pinned: unknown): BackendReader {
    const { engine, expertsModel } = this.parts;
    const reader = (requested: () => string): BackendReader => ({
      requested,
      choose: (pass) => chooseBackend(requested(), pass, this.policy),
    });
    if (pinned === undefined || pinned === null) return reader(() => textBackend(this.#experts));
    const name = textBackend(applyExperts(this.#experts, pinned, expertsModel));
    engine.assertSupported(name);
    return reader(() => name);
  }

  /** Why the context is shorter than the model's own, for messages. */
  get #bound(): string {
    const isBound = this.contextLength < this.parts.model.contextLength;
    return isBound ? ' that maxCacheLength or maxCacheBytes leave room for' : '';
  }

  /**
   * The one check of prompts, which also takes their left padding off.
   * @throws InputError for ids or masks out of range, and for prompts beyond the context
   */
  protected prompts(inputIds: unknown, attentionMask: unknown): Prompts {
    const { given, rows } = checkPrompts(inputIds, attentionMask, this.parts.model.vocabSize);
    return { given, rows: this.#placed(rows, 'inputIds') };
  }

  /**
   * The same for prompts that each answer leads away from, which have no padding.
   * @param name of the option that they come from
   */
  protected negativePrompts(rows: unknown, name: string): PromptRow[] {
    const ids = checkIds(rows, name, this.parts.model.vocabSize);
    const empty = ids.findIndex(({ length }) => length === 0);
    if (empty !== -1) throw new InputError(`${name}: row ${empty} is empty. Give it at least one token`);
    return this.#placed(
      ids.map((row) => ({ ids: row })),
      name,
    );
  }

  #placed(rows: readonly PromptRow[], name: string): PromptRow[] {
    const { promptPositions } = this.parts.model;
    return rows.map(({ ids }, i) => {
      if (ids.length > this.contextLength)
        throw new InputError(
          `${name}: row ${i} has ${ids.length} tokens, more than the context of ${this.contextLength}${this.#bound}. Shorten the prompt.`,
        );
      return promptPositions ? { ids, positions: promptPositions(ids.length) } : { ids };
    });
  }
}

/** @throws InputError */
function checkListener(event: unknown, listener: unknown): void {
  if (event !== 'routing') throw new InputError(expected('The event', event, '"routing"'));
  if (typeof listener !== 'function') throw new InputError(expected('The listener', listener, 'a function'));
}

/** The backend of the text model: its sub-config's, or that of a model without sub-configs. */
export function textBackend(setting: ExpertsSetting): string {
  return (setting.text_config ?? setting['']) as string;
}
