import { inspect } from 'node:util';
import { type CacheOwner, saveCache } from '../engine/cache-file.ts';
import type { SequenceKeeper } from '../engine/decoding.ts';
import type { Engine } from '../engine/engine.ts';
import type { KeptSequence } from '../engine/kept-sequences.ts';
import { expected, InputError } from '../errors.ts';
import { noMore } from '../options.ts';

/**
 * What a model has computed of one sequence: keys and values, and recurrent states, on the CPU or the GPU. Made by `model.createCache()` or
 * `model.loadCache(file)`; `generate`, `stream` and `forward` take it as `cache`, compute only what is new, and let it grow by that. It takes
 * memory until it is disposed of. Counterpart of HF `Cache`.
 */
export class Cache {
  readonly #engine: Engine;
  readonly #owner: () => Promise<CacheOwner>;
  #kept: KeptSequence | undefined;
  #isBusy = false;

  /** @internal */
  constructor(engine: Engine, owner: () => Promise<CacheOwner>, kept: KeptSequence = engine.kept.empty()) {
    this.#engine = engine;
    this.#owner = owner;
    this.#kept = kept;
  }

  /** Tokens it holds. The last token of an answer is not among them, as nothing has been computed after it. */
  get length(): number {
    return this.#open.ids.length;
  }

  /** Their ids; a copy. */
  get ids(): number[] {
    return [...this.#open.ids];
  }

  /** Of these tokens, how many need not be computed again: all, unless `truncate` has cut a model with recurrent states. */
  get computed(): number {
    return this.#open.computed;
  }

  /** A cache of the same tokens, which goes its own way. What both have in common takes memory once. */
  fork(...rest: never[]): Cache {
    noMore(rest, 'cache.fork', 'call it without any');
    return new Cache(this.#engine, this.#owner, this.#engine.kept.fork(this.#idle('fork')));
  }

  /**
   * Drops all but the first tokens. The states of recurrent layers (Qwen3-Next, Qwen3.5) cannot be cut back: there what comes next goes on
   * from the last states that the model's prefix cache has of the tokens that are left, as of the end of an earlier call or of a long prompt,
   * and the tokens after these are computed again.
   * @throws InputError for a length that it does not have
   */
  truncate(length: number, ...rest: never[]): void {
    noMore(rest, 'cache.truncate', 'the length is all it takes');
    const kept = this.#idle('truncate');
    if (!Number.isInteger(length) || length < 0 || length > kept.ids.length)
      throw new InputError(
        expected('cache.truncate: length', length, `a whole number from 0 to ${kept.ids.length}, its length`),
      );
    this.#kept = this.#engine.kept.truncate(kept, length);
  }

  /**
   * Writes it to a file, safetensors, in place of what is there; `model.loadCache` reads it.
   * @throws EngineError where the file cannot be written
   */
  async save(file: string, ...rest: never[]): Promise<void> {
    noMore(rest, 'cache.save', 'the file is all it takes');
    checkFile(file, 'cache.save');
    await this.#use('save', async (kept) => saveCache(file, this.#engine.kept, kept, await this.#owner()));
  }

  /** Gives its memory back; it cannot be used afterwards. Idempotent. */
  dispose(...rest: never[]): void {
    noMore(rest, 'cache.dispose', 'call it without any');
    if (!this.#kept) return;
    this.#engine.kept.release(this.#idle('dispose'));
    this.#kept = undefined;
  }

  /** As `dispose`: `using cache = …`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** One line for `console.log`. */
  [inspect.custom](): string {
    return this.#kept ? `Cache(${this.length} tokens)` : 'Cache(disposed)';
  }

  /**
   * Lends what it holds to a call, until that ends.
   * @throws InputError while another call has it, and for a cache of another model
   * @internal
   */
  lend(engine: Engine, where: string): SequenceKeeper {
    if (engine !== this.#engine)
      throw new InputError(
        `${where}: cache belongs to another model. Make one with this model's createCache, or load it with loadCache`,
      );
    const kept = this.#idle(where);
    this.#isBusy = true;
    return {
      kept,
      take: (next) => {
        this.#engine.kept.release(kept);
        this.#kept = next;
      },
      end: () => {
        this.#isBusy = false;
      },
    };
  }

  async #use<T>(where: string, work: (kept: KeptSequence) => Promise<T>): Promise<T> {
    const kept = this.#idle(where);
    this.#isBusy = true;
    try {
      return await work(kept);
    } finally {
      this.#isBusy = false;
    }
  }

  #idle(where: string): KeptSequence {
    if (this.#isBusy)
      throw new InputError(
        `${where}: cache is in use by another call. Await that, or use a cache.fork() made before`,
      );
    return this.#open;
  }

  get #open(): KeptSequence {
    if (this.#kept) return this.#kept;
    throw new InputError('the cache has been disposed of; make another with createCache');
  }
}

/** @throws InputError for what is no cache */
export function checkCache(cache: unknown, where: string): asserts cache is Cache {
  if (!(cache instanceof Cache))
    throw new InputError(expected(`${where}: cache`, cache, 'a cache, as model.createCache makes it'));
}

/** @throws InputError for what is no path */
export function checkFile(file: unknown, where: string): asserts file is string {
  if (typeof file !== 'string' || file === '')
    throw new InputError(expected(`${where}: the file`, file, 'a path'));
}
