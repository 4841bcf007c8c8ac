import { ExpertsError, InputError } from '../errors.ts';
import type { ExpertsContext } from '../experts/interface.ts';
import { ExpertsInterface } from '../experts/registry.ts';
import { isRoutedExpert, type Model } from '../models/architecture.ts';
import * as io from '../models/io.ts';
import type { RouterCounts } from '../runtime/binding.ts';
import type { DeviceWeights } from '../runtime/device.ts';
import type { ResidencyStats } from '../runtime/residency.ts';
import type { WeightStore } from '../runtime/types.ts';
import { formatBytes } from '../units.ts';
import { CheckpointWeights } from '../weights/checkpoint-weights.ts';
import { type ModelCheckpoint, storedWeights } from '../weights/quantized-checkpoint.ts';
import { Admission, reservationOf } from './admission.ts';
import { makeBatch, visualFeeds } from './batch.ts';
import { DeviceCacheMemory, HostCacheMemory } from './cache/memory.ts';
import { CachePool } from './cache/pool.ts';
import { type KeptSequence, KeptSequences } from './kept-sequences.ts';
import { LogitsBuffers } from './logits-buffers.ts';
import { type DecoderOptions, targetOf } from './open-graph.ts';
import type { PassRequest, PassResult } from './pass.ts';
import { PrefixCache } from './prefix-cache.ts';
import { PromptPace } from './prompt-pace.ts';
import type { RecordingPolicy } from './recording-policy.ts';
import { RequestQueue, type ScoreRequest, type SequenceScores } from './request-queue.ts';
import { RoutingTap } from './routing.ts';
import { Runner } from './runner.ts';
import { type Prompt, Sequence } from './sequence.ts';
import { type GraphVariant, Sessions } from './sessions.ts';
import { PassTimes } from './tuning/pass-times.ts';
import { Turns } from './turns.ts';

/**
 * What computes, for as long as the model lives: sessions, the cache of all sequences, recorded steps. Passes run one at a time, in
 * the order they are asked for.
 */
export class Engine {
  readonly model: Model;
  /** Where the routers send tokens. */
  readonly routing = new RoutingTap();
  /** How long passes take. */
  readonly passTimes = new PassTimes();
  /** Sequences that outlive the calls which compute them. */
  readonly kept: KeptSequences;
  readonly #logits: LogitsBuffers;
  readonly #checkpoint: ModelCheckpoint;
  readonly #store: WeightStore;
  readonly #options: DecoderOptions;
  readonly #contexts: readonly ExpertsContext[];
  readonly #sessions: Sessions;
  readonly #runner: Runner;
  readonly #pool: CachePool;
  readonly #prefixes: PrefixCache;
  readonly #admission: Admission;
  readonly #turns = new Turns();
  readonly #queue: RequestQueue;
  readonly #pace: PromptPace;
  /** Sequences of the pass that is running, and of these the ones to close after it. */
  #running = new Set<Sequence>();
  readonly #closing = new Set<Sequence>();

  constructor(model: Model, checkpoint: ModelCheckpoint, store: WeightStore, options: DecoderOptions) {
    const { weights, cacheDtype: dtype, prefixBytes = 0, maxCacheBytes: maxBytes } = options;
    this.model = model;
    this.#checkpoint = checkpoint;
    this.#store = store;
    this.#options = options;
    this.#contexts = model.expertsContexts(new CheckpointWeights(checkpoint), targetOf(options));
    this.#sessions = new Sessions(model, checkpoint, store, options);
    this.#runner = new Runner(model, this.#sessions, options);
    const memory = weights ? new DeviceCacheMemory(weights.device) : new HostCacheMemory();
    const forget = () => this.#runner.forget();
    this.#pool = new CachePool(model.caches, { dtype, memory, prefixBytes, maxBytes, onMove: forget });
    this.#prefixes = new PrefixCache(this.#pool);
    this.#admission = new Admission(this.#pool, this.#prefixes);
    const hasStates = model.caches.some(({ kind }) => kind === 'recurrent');
    this.kept = new KeptSequences(this.#pool, this.#turns, hasStates);
    this.#logits = new LogitsBuffers(model.vocabSize, weights?.device, forget);
    const most = weights ? io.DEVICE_CHUNK_TOKENS : io.CHUNK_TOKENS;
    this.#pace = new PromptPace(most);
    this.#queue = new RequestQueue(
      (prepare) =>
        this.#turns.take(async () => {
          const next = await prepare({
            begin: (sequence) => this.#prefixes.begin(sequence),
            admit: (groups) => this.#admission.admit(groups),
          });
          return next && this.#run(next.pass, next.signal);
        }),
      this.#logits,
      () => ({ tokens: most, besideDecoding: this.#pace.tokens }),
    );
  }

  /** The weights on a device; undefined on the CPU. */
  get weights(): DeviceWeights | undefined {
    return this.#options.weights;
  }

  /** What experts that come and go have cost; undefined where all weights are mapped. */
  get residency(): ResidencyStats | undefined {
    return this.weights?.stats ?? this.#store.residency;
  }

  /** Bytes of memory of what layers keep, in use or kept for later. */
  get cacheBytes(): number {
    return this.#pool.bytes;
  }

  /** How often sequences have given up what they held in a cache that was full, to be computed again. */
  get preemptions(): number {
    return this.#admission.preemptions;
  }

  /** Most positions of a sequence that the bound of the cache leaves room for. */
  get mostPositions(): number {
    return this.#pool.mostPositions;
  }

  /** Bytes of the least bound of the cache, in which a sequence has a block of positions. */
  get leastCacheBytes(): number {
    return this.#pool.leastBytes;
  }

  /** Blocks of keys and values, in use or kept for later. */
  get cacheBlocks(): number {
    return this.#pool.blocks;
  }

  /** Whether activations that meet codes of integers are rounded to int8. */
  get int8Activations(): boolean {
    return this.#options.int8Activations ?? false;
  }

  /** Whether decode steps are recorded on a device, and how that goes. */
  get recording(): RecordingPolicy {
    return this.#runner.policy;
  }

  /** Whether decode steps on a backend are recorded, as far as is known yet. */
  recordsSteps(experts: string): boolean {
    return this.#runner.recordsSteps(experts);
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

  /** Bytes of one routed expert as stored, on average; 0 for a model without. */
  get expertBytes(): number {
    const { routed, work } = this.model;
    if (!routed) return 0;
    const stored = storedWeights(this.#checkpoint).filter(({ name }) => isRoutedExpert(work.use(name)));
    const bytes = stored.reduce((sum, { byteLength }) => sum + byteLength, 0);
    return Math.round(bytes / (routed.layers.length * routed.count));
  }

  /** What each layer that routes has done so far, by its index. Not counted on a device. */
  routerCounts(): ReadonlyMap<number, RouterCounts> {
    return this.#sessions.routerCounts();
  }

  /** Opens the session of a variant ahead of its first run. */
  async prepare(variant: GraphVariant, experts: string, signal?: AbortSignal): Promise<void> {
    await this.#sessions.get(variant, experts, signal);
  }

  /**
   * A sequence with nothing computed yet.
   * @param newTokens most tokens that will follow the prompt
   * @param kind the experts backend, where what has been computed by it may be used, and what will be is kept
   * @param from what it goes on from
   * @throws EngineError after `dispose`; InputError where `from` is no beginning of the prompt
   */
  open(prompt: Prompt, newTokens = 0, kind?: string, from?: KeptSequence): Sequence {
    this.#sessions.assertOpen();
    const sequence = from
      ? this.kept.open(from, prompt, newTokens, kind)
      : new Sequence(prompt, this.#pool.open(prompt.ids.length + newTokens), kind);
    this.#admission.opened(sequence);
    return sequence;
  }

  /** A sequence that goes on from where another is, of which no pass is running. */
  fork(sequence: Sequence): Sequence {
    this.#sessions.assertOpen();
    const fork = sequence.fork(this.#pool.fork(sequence.cache, sequence.computed));
    this.#admission.opened(fork);
    return fork;
  }

  /** Keeps what a sequence has computed, of which no pass is running, for others to go on from; the sequence itself has ended. */
  keep(sequence: Sequence): KeptSequence {
    this.#admission.closed(sequence);
    // In the tree of prefixes there is only what one kind has computed.
    const kind = sequence.prefix?.node && sequence.prefix.kind;
    this.#prefixes.end(sequence);
    const kept = this.kept.take(sequence, kind);
    this.#prefixes.prune(sequence);
    return kept;
  }

  /** Gives up what a sequence holds, once no pass of it is running. Idempotent. */
  close(sequence: Sequence): void {
    if (this.#running.has(sequence)) this.#closing.add(sequence);
    else this.#close(sequence);
  }

  /**
   * The scores after each sequence's last token. Requests that wait at the same time share passes.
   * @param isNext whether the generation has been served before
   * @throws EngineError; AbortError, after which the sequences can only be closed
   */
  ask(request: ScoreRequest, isNext: boolean): Promise<SequenceScores> {
    this.#sessions.assertOpen();
    return this.#queue.ask(request, isNext);
  }

  /** Says that a generation that was served will not ask again. */
  leave(): void {
    this.#queue.leave();
  }

  /**
   * Sees to it that sequences can have what they need at the same time, whatever else runs.
   * @param lengths most tokens of each; a fork that keeps a row as it was before guesses has room within it
   * @throws InputError where the bound of the cache does not allow that
   */
  assertRoom(lengths: readonly number[]): void {
    const { maxCacheBytes } = this.#options;
    const needed = this.#pool.bytesFor(lengths);
    if (maxCacheBytes === undefined || needed <= maxCacheBytes) return;
    const [needs, remedy] =
      lengths.length === 1
        ? [`A row of up to ${lengths[0]} tokens needs`, 'Run a shorter one']
        : [
            `${lengths.length} rows of up to ${Math.max(...lengths)} tokens need`,
            'Run fewer or shorter rows at a time',
          ];
    throw new InputError(
      `${needs} ${formatBytes(needed)} of cache, and maxCacheBytes allows ${formatBytes(maxCacheBytes)}. ` +
        `${remedy} (maxNewTokens), or raise maxCacheBytes (--max-cache)`,
    );
  }

  /** Begins sequences with what is known of them, and makes room in the cache for all of their tokens, before passes over parts of them would do so bit by bit. */
  reserve(sequences: readonly Sequence[], signal?: AbortSignal): Promise<void> {
    const begin = () => {
      for (const sequence of sequences) this.#prefixes.begin(sequence);
      return this.#reserveEarly(sequences);
    };
    return this.#turns.take(begin, signal, 'the pass');
  }

  /**
   * Computes the next tokens of sequences.
   * @throws EngineError; AbortError, after which the sequences can only be closed
   */
  run(request: PassRequest, signal?: AbortSignal): Promise<PassResult> {
    return this.#turns.take(() => this.#run(request, signal), signal, 'the pass');
  }

  /** Waits for passes in progress, then frees. Idempotent. */
  async dispose(): Promise<void> {
    await this.#sessions.dispose();
    await this.#runner.dispose();
    this.#pool.dispose();
    this.#logits.dispose();
  }

  async #reserve(sequences: readonly Sequence[]): Promise<void> {
    this.#sessions.assertOpen();
    await this.#pool.reserve(sequences.map(reservationOf));
  }

  async #reserveEarly(sequences: readonly Sequence[]): Promise<void> {
    const isPinned = sequences.some((sequence) => sequence.isPinned);
    if (isPinned) this.#admission.makeRoom(sequences);
    // Where there is no room, passes make it when they need it; what is pinned has to have it now.
    if (isPinned || this.#pool.fits(sequences.map(reservationOf))) await this.#reserve(sequences);
  }

  #close(sequence: Sequence): void {
    this.#admission.closed(sequence);
    this.#prefixes.close(sequence);
    // Memory goes back when no pass is running; where that fails, it stays.
    if (this.#pool.isTooLarge) this.#turns.take(() => this.#pool.trim()).catch(() => {});
  }

  async #run(request: PassRequest, signal?: AbortSignal): Promise<PassResult> {
    this.#running = new Set(request.chunks.map(({ sequence }) => sequence));
    try {
      return await this.#pass(request, signal);
    } catch (error) {
      for (const sequence of this.#running) sequence.isTorn = true;
      throw error;
    } finally {
      this.#running = new Set();
      for (const sequence of this.#closing) this.#close(sequence);
      this.#closing.clear();
    }
  }

  async #pass({ chunks, wanted, ...request }: PassRequest, signal?: AbortSignal): Promise<PassResult> {
    await this.#reserve([...this.#running]);
    const started = performance.now();
    const batch = makeBatch(chunks, this.model, wanted);
    const visual = visualFeeds(chunks, this.model.hiddenSize);
    const routingDetail = this.model.routed && this.routing.wanted(chunks);
    const routing = { routing: routingDetail !== undefined, routingDetail };
    const run = { ...request, ...routing, batch, visual: visual !== undefined, visualFeeds: visual };
    const result = await this.#runner.run({ ...run, cache: this.#pool.tensors }, signal);
    if (routingDetail && this.model.routed)
      this.routing.tell(chunks, batch, result.outputs, this.model.routed, routingDetail);
    for (const { sequence, tokens } of chunks) {
      sequence.computed += tokens;
      this.#prefixes.keep(sequence, request.kind);
    }
    const milliseconds = performance.now() - started;
    this.#pace.passed(batch.ids.length, milliseconds);
    this.passTimes.passed(batch.ids.length, request.experts, milliseconds);
    const { [io.CANDIDATE_LOGITS.name]: values, [io.CANDIDATE_IDS.name]: ids } = result.outputs;
    if (!values || !ids) return result;
    return {
      ...result,
      candidates: {
        count: request.candidates ?? 0,
        values: values.data as Float32Array,
        ids: ids.data as Int32Array,
      },
    };
  }
}
