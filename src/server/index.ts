export { createServer, type ModelToServe, type Server } from './create-server.ts';
export { type Listening, type ListenOptions, listen } from './listen.ts';
export type { ServerOptions } from './options.ts';
