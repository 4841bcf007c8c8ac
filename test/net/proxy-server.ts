import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Server,
  type Socket,
} from 'node:net';
import type { Duplex } from 'node:stream';
import { TLS } from './tls.ts';

/** A server on loopback that may be closed with all its connections. */
interface Running {
  readonly port: number;
  stop(): Promise<void>;
}

async function start(server: Server): Promise<Running> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** What a proxy of the tests does to those who ask. */
export interface ProxyBehaviour {
  /** `user:password` that it wants. */
  credentials?: string;
  /** Answers this to every CONNECT and request. */
  status?: number;
  /** Takes connections and never says a word. */
  mute?: boolean;
  /** Speaks TLS itself. */
  tls?: boolean;
  /** Port that a host's name leads to; by default the one asked for, at 127.0.0.1. */
  route?: (host: string, port: number) => number;
}

/** A forward proxy: absolute addresses for http, CONNECT for https. `log` says what it was asked. */
export async function startProxy(behaviour: ProxyBehaviour = {}): Promise<Running & { log: string[] }> {
  const log: string[] = [];
  const { credentials, status, mute, route = (_: string, port: number) => port } = behaviour;
  const refused = ({ headers }: IncomingMessage) => {
    const wanted = `Basic ${Buffer.from(credentials ?? '').toString('base64')}`;
    if (credentials !== undefined && headers['proxy-authorization'] !== wanted) return 407;
    return status;
  };
  const onRequest = (incoming: IncomingMessage, response: ServerResponse) => {
    log.push(`${incoming.method} ${incoming.url}`);
    const refusal = refused(incoming);
    if (mute) return;
    if (refusal !== undefined) return void response.writeHead(refusal).end();
    const { hostname, port, pathname, search } = new URL(incoming.url ?? '');
    const { 'proxy-authorization': _, 'proxy-connection': __, ...headers } = incoming.headers;
    const onward = request({
      host: '127.0.0.1',
      port: route(hostname, Number(port || 80)),
      path: pathname + search,
      headers,
    });
    onward.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    onward.end();
  };
  const server = behaviour.tls ? createTlsServer(TLS, onRequest) : createServer(onRequest);
  server.on('connect', (incoming: IncomingMessage, client: Duplex) => {
    log.push(`CONNECT ${incoming.url}`);
    client.on('error', () => {});
    const refusal = refused(incoming);
    if (mute) return;
    if (refusal !== undefined) return void client.end(`HTTP/1.1 ${refusal} Refused\r\n\r\n`);
    const [host = '', port] = (incoming.url ?? '').split(':');
    join(client, route(host, Number(port)), 'HTTP/1.1 200 OK\r\n\r\n');
  });
  return { ...(await start(server)), log };
}

/** A SOCKS5 proxy (RFC 1928) without authentication that resolves names itself. */
export async function startSocksProxy(
  route: (host: string, port: number) => number = (_, port) => port,
): Promise<Running & { log: string[] }> {
  const log: string[] = [];
  const server = createTcpServer((client) => {
    client.once('data', () => {
      client.write(Buffer.from([5, 0]));
      client.once('data', (asked: Buffer) => {
        const isName = asked[3] === 3;
        const end = isName ? 5 + (asked[4] as number) : 8;
        const host = isName ? asked.toString('latin1', 5, end) : asked.subarray(4, 8).join('.');
        const port = asked.readUInt16BE(end);
        log.push(`${host}:${port}`);
        join(client, route(host, port), Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
      });
    });
  });
  return { ...(await start(server)), log };
}

function join(client: Duplex, port: number, greeting: string | Buffer): void {
  const onward = connect(port, '127.0.0.1', () => {
    client.write(greeting);
    onward.pipe(client);
    client.pipe(onward);
  });
  onward.on('error', () => client.destroy());
}
