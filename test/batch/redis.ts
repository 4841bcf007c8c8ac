import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';

/** Whether Redis is installed; on Debian it is the package redis-server. */
export const hasRedis = spawnSync('redis-server', ['--version']).status === 0;

/** A port that nobody uses at the moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** A Redis of this test alone, which keeps nothing. */
export async function startRedis(): Promise<{ url: string; stop: () => Promise<void> }> {
  const port = await freePort();
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
  const redis: ChildProcess = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exit = once(redis, 'exit');
  await new Promise<void>((resolve, reject) => {
    redis.stdout?.on('data', (text) => {
      if (String(text).includes('Ready to accept connections')) resolve();
    });
    exit.then(() => reject(new Error('redis-server ended before it was ready')));
  });
  return {
    url: `redis://127.0.0.1:${port}`,
    stop: async () => {
      redis.kill();
      await exit;
    },
  };
}
