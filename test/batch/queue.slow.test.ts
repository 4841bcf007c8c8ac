/** Workers that drain a queue in a real Redis, and what kills do to it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Queue } from 'bullmq';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { QueueClient, startWorker } from '../../src/batch/queue/index.ts';
import { AbortError } from '../../src/errors.ts';
import type { Server } from '../../src/server/index.ts';
import { run } from '../cli/capture.ts';
import { type CompiledSources, compileSources } from '../helpers/compile-sources.ts';
import { DEMO_FOLDER } from '../helpers/goldens.ts';
import { meanwhile } from '../helpers/meanwhile.ts';
import { answersIn, readResults, requestIds, requestLine, withoutProgress, writeRequests } from './files.ts';
import { hasRedis, startRedis } from './redis.ts';

const LINES = 150;
const why = hasRedis ? '' : ' (skipped: redis-server is not installed)';

describe.skipIf(!hasRedis)(`a queue${why}`, () => {
  let compiled: CompiledSources;
  let redis: Awaited<ReturnType<typeof startRedis>>;
  let folder: string;
  let input: string;
  let output: string;
  const children = new Set<ChildProcess>();

  beforeAll(async () => {
    compiled = await compileSources('cli/main.ts');
  });
  afterAll(() => compiled.remove());
  beforeEach(async () => {
    redis = await startRedis();
    folder = mkdtempSync(join(tmpdir(), 'switchyard-queue-'));
    input = join(folder, 'in.jsonl');
    output = join(folder, 'out.jsonl');
  });
  afterEach(async () => {
    for (const child of children) child.kill('SIGKILL');
    children.clear();
    await redis.stop();
    rmSync(folder, { recursive: true });
  });

  /** `switchyard batch` in a process of its own. */
  function start(...args: string[]) {
    const main = join(compiled.folder, 'cli', 'main.js');
    const child = spawn(process.execPath, [main, 'batch', '--queue', redis.url, ...args]);
    children.add(child);
    let said = '';
    child.stderr.on('data', (text) => {
      said += String(text);
    });
    return { child, said: () => said, exit: once(child, 'exit') };
  }

  async function startProcess() {
    const worker = start('-m', DEMO_FOLDER, '--name', 'demo', '--at-once', '2', '--stalled-after', '1');
    await meanwhile(
      worker.exit.then(([code]) => `exit code ${code}: ${worker.said()}`),
      () => worker.said().includes('works for the queue'),
    );
    return worker;
  }

  /** A worker for the queue `mine`, here, whose model is `app`. */
  const startMine = (app: { fetch: (request: Request) => Promise<Response> }, onError = (_: unknown) => {}) =>
    startWorker({ app } as unknown as Server, {
      ...{ url: redis.url, name: 'mine', atOnce: 1, stalledAfter: 30, onError, onAnswer: () => {} },
    });

  const written = () => (existsSync(output) ? readFileSync(output, 'utf8').split('\n').length - 1 : 0);
  const sorted = (results: readonly { custom_id: string | null }[]) =>
    results.map(({ custom_id }) => Number(custom_id?.split('-')[1])).sort((a, b) => a - b);
  const all = requestIds(LINES).map((_, i) => i + 1);

  it('says so where nobody is there to answer, and goes on when somebody comes', async () => {
    writeRequests(input, 2, 2);
    const client = start(input, output, '--queue-name', 'lonely');
    await meanwhile(client.exit, () => client.said().includes('waiting for a worker'));
    expect(client.said()).toBe(
      `waiting for a worker; "switchyard batch --queue ${redis.url} --queue-name lonely -m MODEL" starts one, on any machine\n`,
    );
    start('-m', DEMO_FOLDER, '--name', 'demo', '--queue-name', 'lonely');
    expect(await client.exit).toEqual([0, null]);
    expect(withoutProgress(client.said())).toMatch(/any machine\n2 lines answered\n$/);
  });

  it('has each request once in the results, when one of two workers is killed -9 midway', async () => {
    writeRequests(input, LINES, 40);
    const [first, second] = [await startProcess(), await startProcess()];
    const client = run(['batch', input, output, '--queue', redis.url, '--as-they-come']);
    await meanwhile(client, () => written() > 10);
    first.child.kill('SIGKILL');
    const { exitCode, stderr } = await client;
    expect([exitCode, stderr]).toEqual([0, expect.stringContaining(`${LINES} lines answered\n`)]);
    expect(sorted(readResults(output))).toEqual(all);

    // What came through the queue is what a model says here.
    const local = join(folder, 'local.jsonl');
    await run(['batch', input, local]);
    expect(new Map(answersIn(output).map(([id, text]) => [id, text]))).toEqual(
      new Map(answersIn(local).map(([id, text]) => [id, text])),
    );
    second.child.kill('SIGTERM');
    expect((await second.exit)[0]).toBe(0);
    expect(second.said()).toMatch(/\d+ requests answered\n$/);
  });

  it('has each request once in the results, when who collects them is killed -9 midway', async () => {
    writeRequests(input, LINES);
    // The worker halts midway until the collector is gone.
    let goOn = () => {};
    const halt = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    let begun = 0;
    const fetch = async () => {
      if (++begun > 20) await halt;
      return Response.json({ choices: [] });
    };
    const close = await startMine({ fetch });
    const queue = ['--queue-name', 'mine'];
    const first = start(input, output, ...queue);
    await meanwhile(first.exit, () => written() > 10);
    first.child.kill('SIGKILL');
    await first.exit;
    expect(written()).toBeLessThan(LINES);
    goOn();
    const { exitCode, stderr } = await run(['batch', input, output, '--queue', redis.url, ...queue]);
    await close(false);
    expect([exitCode, stderr]).toEqual([0, expect.stringMatching(/\d+ of 150 lines are done already\n/)]);
    // In their order, too.
    expect(readResults(output).map(({ custom_id }) => custom_id)).toEqual(requestIds(LINES));
  });

  it('ends what is waited for, and begins nothing more, with an AbortError once it is stopped', async () => {
    const stop = new AbortController();
    const client = await QueueClient.open({
      ...{ url: redis.url, name: 'mine', batch: 'stopped', retries: 0, signal: stop.signal },
      ...{ onError: () => {}, onNoWorker: () => {} },
    });
    try {
      const waiting = client.answer({ number: 1, text: requestLine(1) });
      await new Promise((resolve) => setImmediate(resolve));
      stop.abort('enough');
      const later = client.answer({ number: 2, text: requestLine(2) });
      for (const answer of await Promise.allSettled([waiting, later])) {
        const error: unknown = answer.status === 'rejected' ? answer.reason : undefined;
        expect(error).toBeInstanceOf(AbortError);
        expect(error).toMatchObject({ message: 'the batch was aborted', cause: 'enough' });
      }
    } finally {
      await client.close();
    }
  });

  it('gives requests up that fail again and again, and lists them', async () => {
    writeRequests(input, 3);
    const calls: Record<string, number> = {};
    const fetch = async (request: Request) => {
      const { messages } = (await request.json()) as { messages: [{ content: string }] };
      const question = messages[0].content;
      calls[question] = (calls[question] ?? 0) + 1;
      // The first does well, the second at the second attempt, the third never.
      if (question.includes('1') || (question.includes('2') && calls[question] === 2))
        return Response.json({ choices: [] });
      return Response.json({ error: { message: 'no memory' } }, { status: 503 });
    };
    const faults: unknown[] = [];
    const close = await startMine({ fetch }, (error) => faults.push(error));
    const dead = join(folder, 'dead.jsonl');
    const { exitCode, stderr } = await run([
      ...['batch', input, output, '--queue', redis.url, '--queue-name', 'mine'],
      ...['--retries', '2', '--dead-letters', dead],
    ]);
    await close(false);
    expect([exitCode, withoutProgress(stderr)]).toEqual([0, '2 lines answered, 1 with an error\n']);
    expect(Object.values(calls)).toEqual([1, 2, 3]);
    expect(readResults(output)[2]).toEqual({
      id: 'batch_req_3',
      custom_id: 'request-3',
      response: null,
      error: { code: 'failed', message: 'status 503: no memory' },
    });
    expect(readFileSync(dead, 'utf8')).toBe(`${requestLine(3)}\n`);
    expect(faults).toHaveLength(4);

    // As a kill leaves them between a result and what comes of it: the job is there, and the list is not.
    const queue = new Queue('mine', { connection: { url: redis.url } });
    const [file] = /^[0-9a-f]{16}/.exec(createHash('sha256').update(readFileSync(input)).digest('hex')) as [
      string,
    ];
    await queue.add('line', {}, { jobId: `${file}-3` });
    rmSync(dead);
    const args = [
      'batch',
      input,
      output,
      '--queue',
      redis.url,
      '--queue-name',
      'mine',
      '--dead-letters',
      dead,
    ];
    expect((await run(args)).exitCode).toBe(0);
    expect(readFileSync(dead, 'utf8')).toBe(`${requestLine(3)}\n`);
    expect(await queue.getJobCountByTypes()).toBe(0);
    await queue.close();
  });
});
