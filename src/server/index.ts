export { createServer, type Server } from './create-server.ts';
export { type Listening, type ListenOptions, listen } from './listen.ts';
export type { ModelOnDemand, ModelToServe } from './model-pool.ts';
export type { ServerOptions } from './options.ts';
