import { Redis } from 'ioredis';
import { InputError } from '../../errors.ts';
import type { BatchLine } from '../lines.ts';

/** The queue's name in Redis, where none is given. */
export const DEFAULT_QUEUE = 'switchyard-batch';
/** How long Redis may take to answer at first, in milliseconds. */
const PATIENCE = 10_000;

export interface QueueOptions {
  /** `redis://host:6379`, or `rediss://…`, with user, password and database where there are any. */
  readonly url: string;
  readonly name: string;
}

/** What a job holds. What comes of it is a `BatchResult`. */
export type JobData = BatchLine;

/**
 * Connects to Redis. Later losses of the connection are waited out.
 * @throws InputError where Redis cannot be reached now
 */
export async function connect(url: string, onError: (error: unknown) => void): Promise<Redis> {
  let isConnected = false;
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: PATIENCE,
    // BullMQ's workers wait at Redis as long as they must.
    maxRetriesPerRequest: null,
    retryStrategy: (times) => (isConnected ? Math.min(times * 200, 5000) : null),
  });
  let last: unknown;
  redis.on('error', (error) => {
    last = error;
    if (isConnected) onError(error);
  });
  try {
    await redis.connect();
    await redis.ping();
  } catch (error) {
    redis.disconnect();
    const { message } = (last ?? error) as Error;
    throw new InputError(`Redis cannot be reached at ${withoutPassword(url)}: ${message}`, { cause: error });
  }
  isConnected = true;
  return redis;
}

/** For messages. */
export function withoutPassword(url: string): string {
  return url.replace(/\/\/[^@/]*@/, '//…@');
}
