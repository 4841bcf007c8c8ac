import { Queue, QueueEvents } from 'bullmq';
import type { Redis } from 'ioredis';
import { abortError, abortIf, onAbort } from '../../errors.ts';
import { type BatchLine, customIdOf } from '../lines.ts';
import { ANSWERING, type BatchResult, FAILED, resultId } from '../result.ts';
import { connect, type JobData, type QueueOptions } from './connect.ts';

/** How often jobs are looked after whose end may have been missed, in milliseconds. */
const SWEEP_MS = 5000;
/** The first pause before another attempt, in milliseconds; each further one is twice as long. */
const FIRST_PAUSE = 500;

export interface ClientOptions extends QueueOptions {
  /** Names the input, so that a run that is taken up again finds its jobs, and no other's. */
  readonly batch: string;
  readonly retries: number;
  /** Ends what is waited for. */
  readonly signal: AbortSignal;
  readonly onError: (error: unknown) => void;
  /** Told when lines wait and nobody is there to answer them, once until somebody has come. */
  readonly onNoWorker: () => void;
}

interface Waiting {
  readonly line: BatchLine;
  readonly resolve: (result: BatchResult) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Has lines answered by the workers of a queue. A job stays in Redis until its result is written down: whoever is killed in between finds it
 * there the next time, under the same id.
 */
export class QueueClient {
  readonly #connections: readonly [Redis, Redis];
  readonly #queue: Queue<JobData, BatchResult>;
  readonly #events: QueueEvents;
  readonly #options: ClientOptions;
  readonly #waiting = new Map<string, Waiting>();
  readonly #sweep: NodeJS.Timeout;
  readonly #forget: () => void;
  #hasWorkers = true;

  private constructor(connections: readonly [Redis, Redis], events: QueueEvents, options: ClientOptions) {
    this.#connections = connections;
    this.#options = options;
    this.#queue = new Queue(options.name, { connection: connections[0] });
    this.#events = events;
    this.#queue.on('error', options.onError);
    events.on('error', options.onError);
    events.on('completed', ({ jobId }) => this.#look(jobId));
    events.on('failed', ({ jobId }) => this.#look(jobId));
    this.#sweep = setInterval(() => {
      for (const id of this.#waiting.keys()) this.#look(id);
      void this.#countWorkers();
    }, SWEEP_MS);
    this.#forget = onAbort(options.signal, () => {
      const { signal } = options;
      for (const { reject } of this.#waiting.values()) reject(abortError(signal, ANSWERING));
    });
  }

  /** @throws InputError where Redis cannot be reached */
  static async open(options: ClientOptions): Promise<QueueClient> {
    const redis = await connect(options.url, options.onError);
    // What happens is told through another, which waits.
    const listener = await connect(options.url, options.onError);
    const events = new QueueEvents(options.name, { connection: listener });
    await events.waitUntilReady();
    return new QueueClient([redis, listener], events, options);
  }

  /** Has a line answered; what fails again and again is a result, too. @throws AbortError */
  async answer(line: BatchLine): Promise<BatchResult> {
    abortIf(this.#options.signal, ANSWERING);
    const id = this.#idOf(line.number);
    const result = new Promise<BatchResult>((resolve, reject) => {
      this.#waiting.set(id, { line, resolve, reject });
    });
    result.catch(() => {});
    await this.#add(id, line);
    // Of an earlier run, the job may be done already.
    this.#look(id);
    return result;
  }

  /** Removes the job of a line whose result is written down. */
  async written(line: number): Promise<void> {
    await this.#queue.remove(this.#idOf(line));
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep);
    this.#forget();
    await Promise.allSettled([this.#events.close(), this.#queue.close()]);
    for (const connection of this.#connections) connection.disconnect();
  }

  #idOf(line: number): string {
    return `${this.#options.batch}-${line}`;
  }

  async #add(id: string, line: BatchLine): Promise<void> {
    await this.#queue.add('line', line, {
      jobId: id,
      attempts: this.#options.retries + 1,
      backoff: { type: 'exponential', delay: FIRST_PAUSE },
    });
  }

  async #countWorkers(): Promise<void> {
    // Not every Redis lists who is connected.
    const count = await this.#queue.getWorkersCount().catch(() => undefined);
    if (count === undefined || this.#waiting.size === 0) return;
    if (count === 0 && this.#hasWorkers) this.#options.onNoWorker();
    this.#hasWorkers = count > 0;
  }

  #look(id: string): void {
    const waiting = this.#waiting.get(id);
    if (waiting) this.#take(id, waiting).catch(this.#options.onError);
  }

  async #take(id: string, waiting: Waiting): Promise<void> {
    // First, because what comes of a job is in it only from then on.
    const state = await this.#queue.getJobState(id);
    // Somebody has emptied Redis.
    if (state === 'unknown') return this.#add(id, waiting.line);
    if (state !== 'completed' && state !== 'failed') return;
    const job = await this.#queue.getJob(id);
    if (!job) return;
    this.#waiting.delete(id);
    waiting.resolve(state === 'completed' ? job.returnvalue : failure(waiting.line, job.failedReason));
  }
}

function failure({ number, text }: BatchLine, message: string): BatchResult {
  return {
    id: resultId(number),
    custom_id: customIdOf(text),
    response: null,
    error: { code: FAILED, message },
  };
}
