import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { InputError } from '../errors.ts';
import type { Server } from './create-server.ts';

export interface ListenOptions {
  /** Default 127.0.0.1: this machine only. */
  host?: string | undefined;
  /** Default 8000; 0: any that is free. */
  port?: number | undefined;
}

/** A server that can be reached. */
export interface Listening {
  readonly url: string;
  /**
   * Ends it: takes no more connections, answers what it has accepted, and closes what is left after so many milliseconds.
   * @returns whether all has been answered
   */
  close(deadline?: number): Promise<boolean>;
}

/** Headers must have come within this time, against clients that send a byte now and then. */
const HEADERS_TIMEOUT = 30_000;
/** And the rest of a request within this: what has come of it takes memory. */
const REQUEST_TIMEOUT = 300_000;

/** Binds a server to a port. @throws InputError where the address is taken or not this machine's */
export async function listen(
  server: Server,
  { host = '127.0.0.1', port = 8000 }: ListenOptions = {},
): Promise<Listening> {
  const http = createAdaptorServer({
    fetch: server.app.fetch,
    // What else runs in the process keeps its own Request and Response.
    overrideGlobalObjects: false,
    // Probes of HTTP/1.0 name none.
    hostname: 'localhost',
    serverOptions: { headersTimeout: HEADERS_TIMEOUT, requestTimeout: REQUEST_TIMEOUT },
  });
  http.listen(port, host);
  try {
    await once(http, 'listening');
  } catch (error) {
    const reason =
      (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
        ? 'it is taken; choose another port'
        : (error as Error).message;
    throw new InputError(`The server cannot listen on ${host}:${port}: ${reason}`, { cause: error });
  }
  const { port: bound, family, address } = http.address() as AddressInfo;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`,
    close: async (deadline = 30_000) => {
      http.close();
      const isDone = await within(server.drain(), deadline);
      if ('closeAllConnections' in http && !isDone) http.closeAllConnections();
      if ('closeIdleConnections' in http) http.closeIdleConnections();
      return isDone;
    },
  };
}

async function within(work: Promise<void>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
