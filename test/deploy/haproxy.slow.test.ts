/** Three replicas behind haproxy, by the configuration that configs/deploy has, and what befalls clients when replicas go. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { freePort } from '../batch/redis.ts';
import { type CompiledSources, compileSources } from '../helpers/compile-sources.ts';
import { DEMO_FOLDER } from '../helpers/goldens.ts';

const CONFIG = join(import.meta.dirname, '../../configs/deploy/haproxy.cfg');
const hasHaproxy = spawnSync('haproxy', ['-v']).status === 0;
const why = hasHaproxy ? '' : ' (skipped: haproxy is not installed)';
const REPLICAS = [1, 2, 3];

describe.skipIf(!hasHaproxy)(`three replicas behind haproxy${why}`, () => {
  let compiled: CompiledSources;
  let folder: string;
  let url: string;
  let haproxy: ChildProcess;
  const replicas = new Map<string, ChildProcess>();
  const ports = new Map<string, number>();

  beforeAll(async () => {
    compiled = await compileSources('cli/main.ts');
    folder = mkdtempSync(join(tmpdir(), 'switchyard-haproxy-'));
    for (const i of REPLICAS) ports.set(`replica${i}`, await freePort());
    await Promise.all([...ports.keys()].map(startReplica));
    const port = await freePort();
    const config = readFileSync(CONFIG, 'utf8')
      .replace('bind :8000', `bind 127.0.0.1:${port}`)
      .replace(/replica\d:8000/g, (address) => `127.0.0.1:${ports.get(address.slice(0, 8))}`);
    writeFileSync(join(folder, 'haproxy.cfg'), config);
    haproxy = spawn('haproxy', ['-db', '-f', join(folder, 'haproxy.cfg')], { stdio: 'ignore' });
    url = `http://127.0.0.1:${port}`;
    await vi.waitUntil(
      () =>
        fetch(`${url}/ready`).then(
          ({ ok }) => ok,
          () => false,
        ),
      { timeout: 600_000 },
    );
  });
  afterAll(async () => {
    for (const child of [haproxy, ...replicas.values()]) child?.kill('SIGKILL');
    await compiled?.remove();
    if (folder) rmSync(folder, { recursive: true });
  });

  async function startReplica(name: string) {
    const child = spawn(process.execPath, [
      ...[join(compiled.folder, 'cli', 'main.js'), 'serve', '--model', `demo=${DEMO_FOLDER}`],
      ...['--port', String(ports.get(name)), '--threads', '1', '--drain', '60', '--no-page'],
    ]);
    replicas.set(name, child);
    let said = '';
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (text) => {
        said += String(text);
        if (said.includes('serving')) resolve();
      });
      child.once('exit', (code) => reject(new Error(`${name} ended with ${code}: ${said}`)));
    });
  }

  /** Asks, and says who answered. */
  async function ask(client: OpenAI, number: number, key?: string) {
    const { data, response } = await client.chat.completions
      .create({
        ...{ model: 'demo', max_tokens: 30, temperature: 0 },
        messages: [{ role: 'user', content: `Speak of the number ${number}.` }],
        ...(key !== undefined && { prompt_cache_key: key }),
      })
      .withResponse();
    return { text: data.choices[0]?.message.content, replica: response.headers.get('x-replica') as string };
  }
  const clientOf = (maxRetries: number) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries });

  /** Many requests, sixteen at a time; `midway` happens among them. */
  async function load(client: OpenAI, count: number, midway: () => void) {
    const answers: { text: string | null | undefined; replica: string }[] = [];
    let next = 0;
    const worker = async () => {
      while (next < count) {
        const number = next++;
        if (number === count / 2) midway();
        answers[number] = await ask(client, number, number % 2 === 0 ? `key ${number % 7}` : undefined);
      }
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    return answers;
  }

  it('keeps a key with its replica, and spreads the keys', async () => {
    const client = clientOf(0);
    const homes: string[] = [];
    for (let key = 0; key < 12; key++) {
      const who = new Set<string>();
      for (let i = 0; i < 3; i++) who.add((await ask(client, 100 * key + i, `key ${key}`)).replica);
      expect([...who], `key ${key}`).toHaveLength(1);
      homes.push(...who);
    }
    expect(new Set(homes).size).toBe(3);
  });

  it('loses no request of clients that retry when a replica is killed -9 under load', async () => {
    const texts = await load(clientOf(5), 120, () => {});
    const answers = await load(clientOf(5), 120, () => replicas.get('replica1')?.kill('SIGKILL'));
    expect(answers.map(({ text }) => text)).toEqual(texts.map(({ text }) => text));
    expect(new Set(answers.slice(0, 60).map(({ replica }) => replica)).size).toBe(3);
    // It comes back, and is asked again.
    await startReplica('replica1');
    await expect
      .poll(async () => new Set((await load(clientOf(5), 32, () => {})).map(({ replica }) => replica)).size)
      .toBe(3);
  });

  it('loses no request, even of clients that do not retry, when a replica is told to end under load', async () => {
    const texts = await load(clientOf(5), 120, () => {});
    const leaving = replicas.get('replica2') as ChildProcess;
    const exit = once(leaving, 'exit');
    const answers = await load(clientOf(0), 120, () => leaving.kill('SIGTERM'));
    expect(answers.map(({ text }) => text)).toEqual(texts.map(({ text }) => text));
    expect((await exit)[0]).toBe(0);
  });
});
