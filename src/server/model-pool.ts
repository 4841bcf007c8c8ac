import { basename, isAbsolute } from 'node:path';
import { abortable, expected, InputError } from '../errors.ts';
import type { CausalLM, ImageTextToText } from '../index.ts';
import { ApiError } from './api-error.ts';
import { checkDefaults, type ServedModel } from './served-model.ts';

type Model = CausalLM | ImageTextToText;

/** A model to be served, under a name of its own. */
export interface ModelToServe {
  model: Model;
  /** The name by which clients ask for it. Default: the repo or folder that the model came from. */
  name?: string | undefined;
}

/** A model that is loaded when it is first asked for, and may have to go when others are. */
export interface ModelOnDemand {
  /** The name by which clients ask for it. */
  name: string;
  /** Bytes of memory that it takes; see `maxModelBytes`. */
  bytes: number;
  /** Loads it. What it gives is the server's to dispose of. */
  load(): Promise<Model>;
}

export type Servable = Model | ModelToServe | ModelOnDemand;

/** A model in memory, and how many are using it. */
class Loaded {
  readonly model: Model;
  #holds = 0;
  #idle: () => void = () => {};

  constructor(model: Model) {
    this.model = model;
  }

  get isIdle(): boolean {
    return this.#holds === 0;
  }

  /** Holds it. @returns ends that, once */
  hold(): () => void {
    this.#holds++;
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      if (--this.#holds === 0) this.#idle();
    };
  }

  /** Frees it, once nobody uses it any more. */
  async end(): Promise<void> {
    if (!this.isIdle)
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    await this.model.dispose();
  }
}

interface Entry {
  readonly name: string;
  /** In seconds since 1970. */
  readonly created: number;
  /** 0 for a model that stays. */
  readonly bytes: number;
  readonly load: (() => Promise<Model>) | undefined;
  loaded: Loaded | undefined;
  loading: Promise<Loaded> | undefined;
  /** Goes up with each use of any. */
  used: number;
}

/** A model that is held until it is released. */
export interface Lease {
  readonly served: ServedModel;
  /** Idempotent. */
  readonly release: () => void;
}

/** What is known of a model, be it loaded or not. */
export interface ModelState {
  readonly name: string;
  readonly created: number;
  readonly model: Model | undefined;
}

/** The models of a server. Those on demand share a bound of memory: the one unused for longest gives way. */
export class ModelPool {
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #maxBytes: number;
  #uses = 0;
  /** Loads come one after another, so that each knows what room there is. */
  #loads: Promise<unknown> = Promise.resolve();

  /** @throws InputError for what is no model, two of one name, and one that never has room; ConfigError as `checkDefaults` */
  constructor(models: readonly Servable[], maxBytes = Number.POSITIVE_INFINITY) {
    this.#maxBytes = maxBytes;
    const entries = new Map<string, Entry>();
    for (const one of models) {
      const entry = entryOf(one, maxBytes);
      if (entries.has(entry.name))
        throw new InputError(
          `createServer: two models are named ${JSON.stringify(entry.name)}; give one another name`,
        );
      entries.set(entry.name, entry);
    }
    if (entries.size === 0) throw new InputError('createServer: there is no model to serve');
    this.#entries = entries;
  }

  /** All of them, in the order in which they were given. */
  get states(): readonly ModelState[] {
    return [...this.#entries.values()].map(stateOf);
  }

  /** The model a request names; the first where it names none. @throws ApiError for one that is not served */
  state(name: string | undefined): ModelState {
    return stateOf(this.#entry(name));
  }

  /**
   * Has a model loaded, and keeps it until it is released.
   * @throws ApiError for one that is not served; AbortError; what loading throws
   */
  async acquire(name: string | undefined, signal: AbortSignal): Promise<Lease> {
    const entry = this.#entry(name);
    entry.used = ++this.#uses;
    const loaded = entry.loaded ?? (await abortable(signal, 'the request', () => this.#load(entry)));
    const release = loaded.hold();
    return { served: { name: entry.name, model: loaded.model, created: entry.created }, release };
  }

  /** Lets go of the models on demand; nobody may ask for one any more. */
  async dispose(): Promise<void> {
    await this.#inTurn(async () => {
      for (const entry of this.#onDemand()) await unload(entry);
    });
  }

  #entry(name: string | undefined): Entry {
    const entry = name === undefined ? [...this.#entries.values()][0] : this.#entries.get(name);
    if (entry) return entry;
    throw new ApiError(
      404,
      `The model ${JSON.stringify(name)} is not served; served are ${[...this.#entries.keys()].join(', ')}`,
      { code: 'model_not_found', param: 'model' },
    );
  }

  /** Those on demand that are loaded. */
  #onDemand(): Entry[] {
    return [...this.#entries.values()].filter(({ load, loaded }) => load && loaded);
  }

  #load(entry: Entry): Promise<Loaded> {
    entry.loading ??= this.#inTurn(async () => {
      await this.#makeRoom(entry);
      const loaded = new Loaded(await (entry.load as NonNullable<Entry['load']>)());
      // Until those who wait for it hold it themselves.
      setImmediate(loaded.hold());
      entry.loaded = loaded;
      return loaded;
    }).finally(() => {
      entry.loading = undefined;
    });
    return entry.loading;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#loads.then(work);
    this.#loads = done.catch(() => {});
    return done;
  }

  /** One that is in use goes as soon as its answers are done; who asks for it meanwhile waits for it to come back. */
  async #makeRoom({ bytes }: Entry): Promise<void> {
    for (;;) {
      const loaded = this.#onDemand().sort((a, b) => a.used - b.used);
      if (loaded.reduce((sum, entry) => sum + entry.bytes, bytes) <= this.#maxBytes) return;
      const next = loaded.find((entry) => entry.loaded?.isIdle) ?? loaded[0];
      await unload(next as Entry);
    }
  }
}

function stateOf({ name, created, loaded }: Entry): ModelState {
  return { name, created, model: loaded?.model };
}

function entryOf(one: Servable, maxBytes: number): Entry {
  const common = { created: Math.floor(Date.now() / 1000), loading: undefined, used: 0 };
  if (one && 'load' in one) {
    const { name, bytes, load } = one;
    if (typeof name !== 'string' || name === '')
      throw new InputError(expected('createServer: name', name, 'the name of the model on demand'));
    if (typeof load !== 'function')
      throw new InputError(
        expected(`createServer: load of ${name}`, load, 'a function that loads the model'),
      );
    if (!(Number.isFinite(bytes) && bytes >= 0))
      throw new InputError(expected(`createServer: bytes of ${name}`, bytes, 'a number of bytes'));
    if (bytes > maxBytes)
      throw new InputError(
        `createServer: ${name} takes ${bytes} bytes, more than maxModelBytes, ${maxBytes}. Raise it`,
      );
    return { ...common, name, bytes, load: () => one.load(), loaded: undefined };
  }
  const { model, name } = one && 'generate' in one ? { model: one, name: undefined } : (one ?? {});
  if (typeof model?.generate !== 'function')
    throw new InputError(expected('createServer: model', model, 'a model that generates'));
  checkDefaults(model);
  const loaded = new Loaded(model);
  return { ...common, name: name ?? nameOf(model.nameOrPath), bytes: 0, load: undefined, loaded };
}

/** A repo id is a name; a folder's place is nothing that clients are told. */
function nameOf(nameOrPath: string): string {
  return isAbsolute(nameOrPath) || nameOrPath.startsWith('.') ? basename(nameOrPath) : nameOrPath;
}

/** From now on nobody finds it. */
async function unload(entry: Entry): Promise<void> {
  const { loaded } = entry;
  entry.loaded = undefined;
  await loaded?.end();
}
