export { QueueClient } from './client.ts';
export { DEFAULT_QUEUE } from './connect.ts';
export { startWorker } from './worker.ts';
