/** Sessions on ONNX Runtime with Switchyard's custom ops. */
import { arrayType, ELEMENT_TYPES } from '../dtype.ts';
import { abortError, abortIf, didYouMean, EngineError, onAbort, show, warn } from '../errors.ts';
import {
  loadBinding,
  type NativeRecording,
  type NativeSession,
  type NativeValueInfo,
  nextRunId,
  type RouterCounts,
  type WrappedTensor,
} from './binding.ts';
import { isCancelled, nativeError } from './native-error.ts';
import type { Tensor } from './ort.ts';
import { toTensor, wrapTensor } from './tensors.ts';
import { checkThreads, defaultThreads } from './threads.ts';
import type { OpenSession, RecordingSession, RunOptions } from './types.ts';
import { nativeStore } from './weight-store.ts';

/** What is aborted, in messages. */
const RUN = 'the run';

type Feeds = Readonly<Record<string, Tensor>>;
type Fetches = Readonly<Record<string, Tensor | null>>;

class SwitchyardSession implements RecordingSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly #native: NativeSession;
  readonly #inputIndex: ReadonlyMap<string, number>;
  readonly #outputIndex: ReadonlyMap<string, number>;
  readonly #running = new Set<Promise<unknown>>();
  #disposal: Promise<void> | undefined;

  constructor(native: NativeSession) {
    this.#native = native;
    const { inputs, outputs } = native;
    for (const input of inputs) checkType(input, 'input');
    for (const output of outputs) checkType(output, 'output');
    this.inputNames = inputs.map((input) => input.name);
    this.outputNames = outputs.map((output) => output.name);
    this.#inputIndex = new Map(this.inputNames.map((name, i) => [name, i]));
    this.#outputIndex = new Map(this.outputNames.map((name, i) => [name, i]));
  }

  async run(feeds: Feeds, fetches: Fetches, options: RunOptions = {}): Promise<Record<string, Tensor>> {
    if (this.#disposal !== undefined) throw new EngineError('the session is disposed');
    const { signal, onExpertsCalls } = options;
    abortIf(signal, RUN);
    const outputNames = Object.keys(fetches);
    const run = this.#start(this.#collectFeeds(feeds), outputNames, fetches, signal);
    this.#running.add(run);
    try {
      const { results, expertsCalls } = await run;
      onExpertsCalls?.(expertsCalls);
      const tensors: Record<string, Tensor> = {};
      for (let j = 0; j < outputNames.length; j++) {
        const name = outputNames[j] as string;
        const result = results[j];
        tensors[name] = result ? toTensor(result, name) : (fetches[name] as Tensor);
      }
      return tensors;
    } catch (cause) {
      if (signal?.aborted && isCancelled(cause)) throw abortError(signal, RUN);
      throw nativeError(cause);
    } finally {
      this.#running.delete(run);
    }
  }

  #collectFeeds(feeds: Feeds): WrappedTensor[] {
    const collected = new Array<WrappedTensor>(this.inputNames.length);
    let count = 0;
    for (const name in feeds) {
      const index = this.#inputIndex.get(name);
      if (index === undefined) throw unknownName('input', name, this.inputNames);
      collected[index] = wrapTensor(feeds[name] as Tensor, `input '${name}'`);
      count++;
    }
    if (count < collected.length) {
      const missing = this.inputNames.filter((name) => !Object.hasOwn(feeds, name));
      throw new EngineError(
        `no feed for input${missing.length > 1 ? 's' : ''} ${missing.map(show).join(', ')}`,
      );
    }
    return collected;
  }

  async #start(
    feeds: WrappedTensor[],
    names: readonly string[],
    fetches: Fetches,
    signal: AbortSignal | undefined,
  ) {
    const { indices, targets } = this.#targets(names, fetches);
    if (signal === undefined) return this.#native.run(feeds, indices, targets, 0);
    const id = nextRunId();
    const stop = onAbort(signal, () => loadBinding().cancelRun(id));
    try {
      return await this.#native.run(feeds, indices, targets, id);
    } finally {
      stop();
    }
  }

  /**
   * Records a run on the session's device for {@link CapturedRun.replay}. A run with the same tensors should have gone before.
   * @throws EngineError where the graph cannot be recorded
   */
  async capture(feeds: Feeds, fetches: Readonly<Record<string, Tensor>>): Promise<NativeRecording> {
    if (this.#disposal !== undefined) throw new EngineError('the session is disposed');
    const { indices, targets } = this.#targets(Object.keys(fetches), fetches);
    const recording = this.#native.capture(this.#collectFeeds(feeds), indices, targets as WrappedTensor[]);
    this.#running.add(recording);
    try {
      return await recording;
    } catch (cause) {
      throw nativeError(cause);
    } finally {
      this.#running.delete(recording);
    }
  }

  routedTokens(): readonly RouterCounts[] {
    return this.#native.routedTokens();
  }

  #targets(names: readonly string[], fetches: Fetches) {
    const indices = names.map((name) => {
      const index = this.#outputIndex.get(name);
      if (index === undefined) throw unknownName('output', name, this.outputNames);
      return index;
    });
    const targets = names.map((name) => {
      const tensor = fetches[name];
      return tensor ? wrapTensor(tensor, `output '${name}'`) : null;
    });
    return { indices, targets };
  }

  /** Waits for runs in progress, then frees. Idempotent. */
  dispose(): Promise<void> {
    this.#disposal ??= Promise.allSettled(this.#running).then(() => this.#native.dispose());
    return this.#disposal;
  }
}

/**
 * Opens a graph over a weight store.
 *
 * @param model ONNX ModelProto bytes; may use the ops of the domain `switchyard`
 * @throws EngineError when the graph is malformed or an op does not fit the stored tensors
 */
export const openSession: OpenSession = async (model, options) => {
  const binding = loadBinding();
  const threads = checkThreads(options.threads ?? defaultThreads());
  const bound = Object.entries(options.boundInputs ?? {});
  const handles = bound.map(([, tensor]) => options.store.handle(tensor));
  const names = bound.map(([input]) => input);
  try {
    const native = await binding.openSession(
      model,
      nativeStore(options.store),
      threads,
      names,
      handles,
      options.weights?.device.native ?? null,
      options.weights?.native ?? null,
    );
    if (native.threads < threads) warnOfFewer(native.threads, threads);
    return new SwitchyardSession(native);
  } catch (cause) {
    throw nativeError(cause);
  }
};

let hasWarned = false;

/** Once: the sessions of a model, and the models of a process, meet the same limit. */
function warnOfFewer(granted: number, wanted: number): void {
  if (hasWarned) return;
  hasWarned = true;
  warn(
    `a session has ${granted} of ${wanted} threads: a limit of the user (ulimit -u), of the container (pids.max) or of the ` +
      'machine allows this process no more. Raise it, or ask for fewer with the option threads',
  );
}

/** bfloat16 has no name of its own in JavaScript: such tensors (caches) are never looked into and go as float16. */
function checkType({ name, type }: NativeValueInfo, kind: string): void {
  if (arrayType(type) !== undefined || type === ELEMENT_TYPES.bfloat16.onnx) return;
  throw new EngineError(
    `graph ${kind} '${name}' has data type ${type}, which JavaScript tensors cannot hold; add a Cast or bind it`,
  );
}

function unknownName(kind: string, name: string, known: readonly string[]): EngineError {
  const hint = didYouMean(name, known) || `; it has ${known.slice(0, 8).map(show).join(', ')}`;
  return new EngineError(`the graph has no ${kind} ${show(name)}${hint}`);
}
