import { Worker } from 'bullmq';
import type { Server } from '../../server/index.ts';
import { answerLine } from '../answer-line.ts';
import { type BatchResult, isServersFault } from '../result.ts';
import { connect, type JobData, type QueueOptions } from './connect.ts';

export interface QueueWorkerOptions extends QueueOptions {
  /** Lines that are answered at once. */
  readonly atOnce: number;
  /** Seconds without a sign of life after which a worker counts as gone, and its lines go to others. */
  readonly stalledAfter: number;
  readonly onError: (error: unknown) => void;
  readonly onAnswer: (result: BatchResult) => void;
}

/** How often a line may take its worker down with it before it counts as failed. */
const MOST_LOSSES = 3;

/**
 * Answers lines of a queue until it is closed. A line whose worker is gone is answered by another; an answer of one that was only thought
 * gone is not taken.
 *
 * @returns closes the worker, once what it has begun is answered, or at once
 * @throws InputError where Redis cannot be reached
 */
export async function startWorker(
  server: Server,
  { url, name, atOnce, stalledAfter, onError, onAnswer }: QueueWorkerOptions,
): Promise<(isNow: boolean) => Promise<void>> {
  const redis = await connect(url, onError);
  const abort = new AbortController();
  const worker = new Worker<JobData, BatchResult>(
    name,
    async ({ data }) => {
      // Other attempts are the queue's, perhaps by another worker.
      const result = await answerLine(server, data, { retries: 0, signal: abort.signal });
      if (isServersFault(result)) throw new Error(faultOf(result));
      onAnswer(result);
      return result;
    },
    {
      connection: redis,
      concurrency: atOnce,
      lockDuration: stalledAfter * 1000,
      stalledInterval: stalledAfter * 1000,
      maxStalledCount: MOST_LOSSES,
    },
  );
  worker.on('error', onError);
  worker.on('failed', (job, error) => onError(new Error(`line ${job?.data.number}: ${error.message}`)));
  return async (isNow) => {
    if (isNow) abort.abort();
    await worker.close(isNow);
    redis.disconnect();
  };
}

function faultOf({ response }: BatchResult): string {
  const body = response?.body as { error?: { message?: unknown } } | undefined;
  return `status ${response?.status_code}: ${String(body?.error?.message ?? 'the server failed')}`;
}
