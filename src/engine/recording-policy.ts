/** When to record decode steps as graphs of the device, and which recording serves a step. */

/** What a recorded step depends on besides its fixed buffers. */
export interface StepKey {
  readonly rows: number;
  /** Blocks in each row of the block table. */
  readonly tableWidth: number;
  /** The buffer that takes the logits. */
  readonly buffer: number;
  readonly implementation: string;
  /** How many of the highest logits it lists. */
  readonly candidates: number;
}

export type StepAction<T> =
  | { readonly kind: 'run' }
  | { readonly kind: 'capture' }
  | { readonly kind: 'replay'; readonly captured: T };

/** Plain runs of a step before it is recorded: they settle the engine's memory and algorithms. */
const WARM_UPS = 2;

/** Recordings kept; the one unused for longest goes. */
const MOST_RECORDINGS = 32;

/** The recordings of a model's steps. They hold addresses, so all go when the memory behind them does. */
export class Recordings<T> {
  readonly #recordings = new Map<string, { runs: number; captured: T | undefined }>();
  readonly #policy: RecordingPolicy;
  readonly #release: (captured: T) => void;

  /** @param release frees a recording */
  constructor(policy: RecordingPolicy, release: (captured: T) => void) {
    this.#policy = policy;
    this.#release = release;
  }

  /** What to do with the next step of this kind. */
  next(key: StepKey): StepAction<T> {
    if (!this.#policy.records(key.implementation)) return { kind: 'run' };
    const recording = this.#of(key);
    if (recording.captured !== undefined) return { kind: 'replay', captured: recording.captured };
    return { kind: recording.runs++ < WARM_UPS ? 'run' : 'capture' };
  }

  captured(key: StepKey, recording: T): void {
    this.#of(key).captured = recording;
    this.#policy.captures++;
  }

  /** Notes that a recording has executed a step. */
  replayed(): void {
    this.#policy.replays++;
  }

  /** Frees all recordings. */
  clear(): void {
    for (const { captured } of this.#recordings.values()) if (captured !== undefined) this.#release(captured);
    this.#recordings.clear();
  }

  #of(key: StepKey) {
    const text = JSON.stringify(key);
    const recording = this.#recordings.get(text) ?? { runs: 0, captured: undefined };
    // A map keeps the order of insertion: what is used moves to the end.
    this.#recordings.delete(text);
    this.#recordings.set(text, recording);
    for (const [oldest, { captured }] of this.#recordings) {
      if (this.#recordings.size <= MOST_RECORDINGS) break;
      if (captured !== undefined) this.#release(captured);
      this.#recordings.delete(oldest);
    }
    return recording;
  }
}

/** Whether steps of a model are recorded. */
export class RecordingPolicy {
  /** Asked for. */
  enabled = false;
  /** Recordings made so far. */
  captures = 0;
  /** Steps that a recording has executed so far. */
  replays = 0;
  readonly #faults = new Map<string, string>();

  /** Whether the steps of an experts backend are recorded. */
  records(implementation: string): boolean {
    return this.enabled && !this.#faults.has(implementation);
  }

  /** Why the steps of some backends are not recorded although that was asked for; undefined while all are. */
  get fault(): string | undefined {
    if (this.#faults.size === 0) return undefined;
    return [...this.#faults].map(([implementation, reason]) => `${implementation}: ${reason}`).join('; ');
  }

  /** After a failed recording none is tried again on the same backend: others may still do. True the first time. */
  fail(implementation: string, reason: string): boolean {
    if (this.#faults.has(implementation)) return false;
    this.#faults.set(implementation, reason);
    return true;
  }
}
