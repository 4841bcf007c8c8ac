export { QueueClient } from './client.ts';
export { DEFAULT_QUEUE, withoutPassword } from './connect.ts';
export { startWorker } from './worker.ts';
