import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { PassThrough, Readable } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { runCommandLine } from '../../src/cli/program.ts';
import { meanwhile } from '../helpers/meanwhile.ts';
import { run } from './capture.ts';

/** Starts `serve` in this process, and waits until it listens. */
async function start(...args: string[]) {
  const stop = new AbortController();
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  let said = '';
  stderr.on('data', (piece) => {
    said += String(piece);
  });
  const exit = runCommandLine(['serve', '--port', '0', ...args], {
    stdin: Readable.from([]),
    stdout,
    stderr,
    stop: stop.signal,
  });
  await meanwhile(exit, () => said.includes('serving'));
  const url = /http:\S+/.exec(said)?.[0] ?? '';
  return { url, exit, stop, said: () => said };
}

const ask = (url: string, model: string, tokens: number, stream = false) =>
  fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({ model, messages: [{ role: 'user', content: 'Hi' }], max_tokens: tokens, stream }),
  });

describe('switchyard serve', () => {
  it('serves models by their names, and on SIGTERM finishes what it has accepted', async () => {
    const { url, exit, said } = await start('--model', 'one=demo', '--model', 'two=demo');
    const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
    expect(data.map(({ id }) => id)).toEqual(['one', 'two']);
    // A stream's head says that it was accepted.
    const answer = await ask(url, 'two', 60, true);
    process.emit(process.platform === 'win32' ? 'SIGBREAK' : 'SIGTERM');
    expect(await answer.text()).toMatch(/"finish_reason":"(length|stop)".*\[DONE\]/s);
    expect(await exit).toBe(0);
    expect(said()).toContain('ended\n');
  });

  it('loads models when they are asked for, within a bound', async () => {
    const { url, exit, stop } = await start(
      '--model',
      'one=demo',
      '--model',
      'two=demo',
      '--models-memory',
      '6MB',
    );
    const loaded = async () => {
      const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: { loaded: boolean }[] };
      return data.map(({ loaded }) => loaded);
    };
    expect(await loaded()).toEqual([false, false]);
    expect((await ask(url, 'one', 2)).status).toBe(200);
    expect((await ask(url, 'two', 2)).status).toBe(200);
    expect(await loaded()).toEqual([false, true]);
    stop.abort();
    await exit;
    const small = await run(['serve', '--model', 'one=demo', '--models-memory', '1kB']);
    expect([small.exitCode, small.stderr]).toEqual([
      2,
      expect.stringContaining('one takes 5.3 MB, more than --models-memory, 1.0 kB; raise it'),
    ]);
    expect((await run(['serve', '--models-memory', 'much'])).stderr).toContain('20GB or 1.5GiB');
  });

  it('asks for the key it was given, and ends when it is stopped', async () => {
    const { url, exit, stop } = await start('--api-key', 'secret');
    expect((await ask(url, 'demo', 2)).status).toBe(401);
    stop.abort();
    await exit;
    await expect(fetch(url)).rejects.toThrow();
  });

  it('warns where others reach it and it asks for no key', async () => {
    const open = await start('--host', '0.0.0.0');
    await expect.poll(open.said).toContain('warning: whoever reaches 0.0.0.0 may use this server; --api-key');
    const others = [await start('--host', '0.0.0.0', '--api-key', 'secret'), await start()];
    const hasV6 = Object.values(networkInterfaces())
      .flat()
      .some((one) => one?.address === '::1');
    if (hasV6) {
      const v6 = await start('--host', '::1');
      expect((await fetch(`${v6.url}/health`)).status).toBe(200);
      others.push(v6);
    }
    for (const { stop } of [open, ...others]) stop.abort();
    for (const { exit } of [open, ...others]) await exit;
    for (const { said } of others) expect(said()).not.toContain('warning');
  });

  it('waits for a reader as long as it is told to, and then has the next request answered', async () => {
    const { url, exit, stop } = await start('--max-running', '1', '--send-timeout', '0.001');
    // More than a connection holds unread; the tokens that would end an answer are barred.
    const large = { n: 8, max_tokens: 900, logprobs: true, top_logprobs: 20 };
    const body = JSON.stringify({
      ...{ messages: [{ role: 'user', content: 'Hi' }], stream: true, ...large },
      logit_bias: { 3071: -100, 3069: -100 },
    });
    const said = vi.spyOn(console, 'error').mockReturnValue();
    const socket = connect(Number(new URL(url).port), '127.0.0.1').on('error', () => {});
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await once(socket, 'readable');
    expect((await ask(url, 'demo', 2)).status).toBe(200);
    socket.destroy();
    stop.abort();
    await exit;
    said.mockRestore();
    expect((await run(['serve', '--send-timeout', '0'])).exitCode).toBe(2);
  });

  it('refuses origins that no page can have', async () => {
    const { exitCode, stderr } = await run(['serve', '--allow-origin', 'good.example']);
    expect([exitCode, stderr]).toEqual([
      2,
      expect.stringMatching(/good\.example.* It must be an origin such as https:\/\/app\.example/),
    ]);
  });

  it('says that a port is taken', async () => {
    const other: Server = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const { exitCode, stderr } = await run(['serve', '--port', String(port)]);
    other.close();
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining('it is taken; choose another port')]);
  });
});
