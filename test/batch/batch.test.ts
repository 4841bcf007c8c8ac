import {
  appendFileSync,
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  answerLine,
  type BatchLine,
  LONGEST_LINE,
  ResultsFile,
  readLines,
  workThrough,
} from '../../src/batch/index.ts';
import { AbortError, InputError } from '../../src/errors.ts';
import type { Server } from '../../src/server/index.ts';
import { run } from '../cli/capture.ts';
import { meanwhile } from '../helpers/meanwhile.ts';
import { answersIn, readResults, requestIds, requestLine, withoutProgress, writeRequests } from './files.ts';

let folder: string;
let input: string;
let output: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'switchyard-batch-'));
  input = join(folder, 'in.jsonl');
  output = join(folder, 'out.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true }));

const batch = async (...args: string[]) => {
  const { stderr, ...rest } = await run(['batch', input, output, ...args]);
  return { ...rest, stderr: withoutProgress(stderr) };
};

describe('switchyard batch', () => {
  it('answers requests in their order, in the words of the endpoint', async () => {
    writeRequests(input, 20);
    const { exitCode, stderr } = await batch();
    expect([exitCode, stderr]).toEqual([0, '20 lines answered\n']);
    const results = readResults(output);
    expect(results.map(({ custom_id }) => custom_id)).toEqual(requestIds(20));
    expect(results[2]).toEqual({
      id: 'batch_req_3',
      custom_id: 'request-3',
      response: {
        status_code: 200,
        request_id: expect.stringMatching(/\S/),
        body: expect.objectContaining({ object: 'chat.completion', model: 'demo' }),
      },
      error: null,
    });
    const said = await run(['generate', '--chat', 'Speak of the number 3.', '-n', '8', '--temperature', '0']);
    expect(answersIn(output)[2]?.[1]).toBe(said.stdout.trim());
  });

  it('says of each faulty line what is wrong with it, and answers the others', async () => {
    let asked = 0;
    const asks = (change: object) => JSON.stringify({ ...JSON.parse(requestLine(++asked)), ...change });
    const lines = [
      '{"custom_id": "a", ',
      '',
      asks({ custom_id: undefined }),
      asks({ method: 'GET' }),
      asks({ url: '/v1/embeddings' }),
      asks({ body: { model: 'gpt', messages: [{ role: 'user', content: 'Hi' }] } }),
      asks({ body: { messages: [{ role: 'user', content: 'Hi' }], stream: true } }),
      asks({ body: { messages: [] } }),
      asks({ url: '/v1/completions', body: { prompt: 'In the', max_tokens: 2 } }),
    ];
    // Editors put a mark before the first line, and ends of lines of their own.
    writeFileSync(input, `\uFEFF${lines.join('\r\n')}`);
    const { exitCode, stderr } = await batch();
    expect([exitCode, stderr]).toEqual([0, '1 line answered, 7 with an error\n']);
    const results = readResults(output);
    expect(results.map(({ id }) => id)).toEqual([1, 3, 4, 5, 6, 7, 8, 9].map((line) => `batch_req_${line}`));
    expect(results.map(({ error, response }) => error?.message ?? response?.status_code)).toEqual([
      expect.stringContaining('line 1: it is no JSON'),
      expect.stringContaining('line 3: custom_id'),
      expect.stringContaining('line 4: method'),
      expect.stringContaining('line 5: url'),
      404,
      expect.stringContaining('a batch does not stream'),
      400,
      200,
    ]);
    expect(results[4]?.response?.body).toMatchObject({ error: { code: 'model_not_found' } });
  });

  it('goes on where an earlier run was killed, in the midst of a line', async () => {
    writeRequests(input, 10);
    await batch();
    const whole = readFileSync(output, 'utf8');
    const answers = answersIn(output);
    writeFileSync(output, whole.slice(0, whole.split('\n').slice(0, 4).join('\n').length + 40));
    const { stderr } = await batch('--at-once', '3');
    expect(stderr).toContain('4 of 10 lines are done already\n');
    expect(answersIn(output)).toEqual(answers);
    expect(readFileSync(output, 'utf8').startsWith(whole.split('\n').slice(0, 4).join('\n'))).toBe(true);
    // And with nothing left, nothing is loaded.
    const again = await batch('--model', join(folder, 'no model'));
    expect([again.exitCode, again.stderr]).toEqual([
      0,
      '10 of 10 lines are done already\n10 lines answered\n',
    ]);
  });

  it('says once that there is no room, and nothing of answers that are under way', async () => {
    writeRequests(input, 20);
    const add = vi.spyOn(ResultsFile.prototype, 'add').mockRejectedValueOnce(new InputError('no room'));
    const { exitCode, stderr } = await batch();
    add.mockRestore();
    expect([exitCode, stderr]).toEqual([1, 'error: no room\n']);
  });

  it('names its results where their lock cannot be made', async () => {
    writeRequests(input, 1);
    const long = join(folder, 'x'.repeat(252));
    const { exitCode, stderr } = await run(['batch', input, long]);
    const reason = 'cannot be written: its path is too long (ENAMETOOLONG)';
    expect([exitCode, stderr]).toEqual([1, `error: ${long} ${reason}\n`]);
  });

  it('keeps what it has when it is stopped', async () => {
    writeRequests(input, 400, 60);
    const stop = new AbortController();
    const running = run(['batch', input, output], { stop: stop.signal });
    await meanwhile(running, () => existsSync(output) && readFileSync(output, 'utf8').includes('\n'));
    stop.abort();
    await running;
    const kept = readResults(output).map(({ custom_id }) => custom_id);
    expect(kept.length).toBeLessThan(400);
    expect(kept).toEqual(requestIds(kept.length));
  });

  it('adds to no file that holds something else, or the results of other requests', async () => {
    writeRequests(input, 2);
    writeFileSync(output, 'precious\n');
    const { exitCode, stderr } = await batch();
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining('is no result of a batch')]);
    expect(readFileSync(output, 'utf8')).toBe('precious\n');
    rmSync(output);
    await batch();
    writeFileSync(input, `${requestLine(7)}\n${requestLine(8)}\n`);
    appendFileSync(input, `${requestLine(9)}\n`);
    const other = await batch();
    expect([other.exitCode, other.stderr]).toEqual([
      1,
      expect.stringContaining('line 1 was "request-1" there'),
    ]);
    expect(readResults(output)).toHaveLength(2);
  });

  it.each([
    ['a file without an end of a line', 'precious'],
    [
      'half a line that is none of a result',
      '{"id":"batch_req_1","custom_id":null,"response":null}\nprecious',
    ],
  ])('leaves %s as it is', async (_, text) => {
    writeRequests(input, 2);
    writeFileSync(output, text);
    const { exitCode, stderr } = await batch();
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining('last line: "precious" is no result')]);
    expect(readFileSync(output, 'utf8')).toBe(text);
  });

  it('names files that no run could go on with', async () => {
    writeRequests(input, 1);
    for (const other of ['/dev/null', folder]) {
      const { exitCode, stderr } = await run(['batch', input, other]);
      expect([exitCode, stderr]).toEqual([1, expect.stringContaining(other)]);
    }
    const pipe = await run(['batch', '/dev/null', output]);
    expect([pipe.exitCode, pipe.stderr]).toEqual([1, expect.stringContaining('/dev/null is not a regular')]);
  });

  it('answers lines of any depth and any sign, and finds its answers again', async () => {
    const deep = 20_000;
    const nested = `${'['.repeat(deep)}${']'.repeat(deep)}`;
    const line = (id: string, body: string) =>
      `{"custom_id": "${id}", "method": "POST", "url": "/v1/completions", "body": ${body}}\n`;
    // Unicode calls both of them ends of lines; JSON does not.
    const signs = 'a\u2028b\u2029c';
    const lines = [
      line('deep', `{"prompt": ${nested}}`),
      `${nested}\n`,
      line(signs, '{"prompt": "In the", "max_tokens": 1}'),
      line('large', '{"prompt": 1e999}'),
      line('small', '{"prompt": "In the", "max_tokens": 1}'),
    ];
    writeFileSync(input, lines.join(''));
    const first = await batch();
    expect([first.exitCode, first.stderr]).toEqual([0, '2 lines answered, 3 with an error\n']);
    expect(readResults(output).map(({ custom_id }) => custom_id)).toEqual([
      ...['deep', null, signs, 'large', 'small'],
    ]);
    const again = await batch();
    expect(again.stderr).toContain('5 of 5 lines are done already');
  });

  it('answers nothing of a file whose requests share an id, and says which lines do', async () => {
    writeFileSync(input, [1, 2, 1, 3, 3, 1].map((number) => `${requestLine(number)}\n`).join('\n'));
    const { exitCode, stderr } = await batch();
    expect([exitCode, stderr]).toEqual([
      1,
      `error: ${input}: line 5 has the custom_id "request-1" of line 1, line 9 has the custom_id "request-3" of line 7, line 11 has the custom_id "request-1" of line 1; give each request its own\n`,
    ]);
    expect(existsSync(output)).toBe(false);
    writeFileSync(input, `${requestLine(1)}\n`.repeat(100));
    expect((await batch()).stderr).toMatch(/line 11 has .* of line 1, and 89 more; give/);
  });

  it.each([
    [['a', 'b', '--dead-letters', './a'], '--dead-letters ./a is the file of the requests or of the results'],
    [['a', 'b', '--dead-letters', 'b'], '--dead-letters b is the file of the requests or of the results'],
    [[], 'name a file of requests and one for the results, or a --queue to work for'],
    [['in.jsonl'], 'name a file for the results of in.jsonl, too'],
    [['a.jsonl', './a.jsonl'], 'cannot be the file of the requests and of the results'],
    [['a', 'b', '--queue-name', 'x'], '--queue-name belongs to --queue'],
    [['a', 'b', '--queue', 'redis://x', '--at-once', '2'], "--at-once is the workers' affair"],
    [['a', 'b', '--queue', 'redis://x', '--max-cache', '1GB'], "--max-cache is the workers' affair"],
    [['a', 'b', '--queue', 'redis://x', '--pin-experts', 'x'], "--pin-experts is the workers' affair"],
    [['--queue', 'redis://x', '--dead-letters', 'x'], '--dead-letters is the affair of who names files'],
  ])('refuses %j', async (args, message) => {
    const { exitCode, stderr } = await run(['batch', ...args]);
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining(message)]);
  });

  it('names a file that cannot be read, and a Redis that cannot be reached', async () => {
    const missing = await batch();
    expect([missing.exitCode, missing.stderr]).toEqual([1, expect.stringContaining(input)]);
    expect(existsSync(output)).toBe(false);
    writeRequests(input, 1);
    const { exitCode, stderr } = await batch('--queue', 'redis://me:secret@127.0.0.1:1/0');
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining('redis://…@127.0.0.1:1/0')]);
    expect(stderr).not.toContain('secret');
  });
});

describe('dead letters', () => {
  const dead = () => join(folder, 'dead.jsonl');
  const result = (number: number, status: number) =>
    `${JSON.stringify({ id: `batch_req_${number}`, custom_id: `request-${number}`, response: { status_code: status, request_id: '', body: {} }, error: null })}\n`;
  const lines = (...numbers: number[]) => numbers.map((number) => `${requestLine(number)}\n`).join('');

  // The second and the fourth request failed on the server's side; what a kill may have left of the list of them:
  it.each([
    ['nothing', ''],
    ['one of them', lines(2)],
    ['half of one', lines(2) + requestLine(4).slice(0, 50)],
    ['one without the end of its line', lines(2) + requestLine(4)],
    ['half of the first', requestLine(2).slice(0, 10)],
    ['all', lines(2, 4)],
  ])('are each in the file once, where it had %s', async (_, left) => {
    writeRequests(input, 4);
    writeFileSync(output, [result(1, 200), result(2, 503), result(3, 400), result(4, 500)].join(''));
    writeFileSync(dead(), left);
    for (let run = 0; run < 2; run++) {
      const { exitCode, stderr } = await batch('--dead-letters', dead());
      expect([exitCode, stderr]).toEqual([0, expect.stringContaining('4 of 4 lines are done already')]);
      expect(readFileSync(dead(), 'utf8')).toBe(lines(2, 4));
    }
  });

  it('are added behind what somebody else has written, in lines of their own', async () => {
    writeRequests(input, 2);
    writeFileSync(output, result(1, 200) + result(2, 500));
    writeFileSync(dead(), 'precious');
    await batch('--dead-letters', dead());
    expect(readFileSync(dead(), 'utf8')).toBe(`precious\n${lines(2)}`);
  });

  it('are taken from no results of other requests, and written to no folder', async () => {
    writeRequests(input, 2);
    writeFileSync(output, result(1, 200) + result(2, 500).replace('request-2', 'another'));
    const other = await batch('--dead-letters', dead());
    expect([other.exitCode, other.stderr]).toEqual([1, expect.stringContaining('results of another file')]);
    const elsewhere = await batch('--dead-letters', folder);
    expect([elsewhere.exitCode, elsewhere.stderr]).toEqual([1, expect.stringContaining(folder)]);
  });
});

/** A server that fails so often, and answers then. */
function failing(times: number): Server {
  let calls = 0;
  const fetch = async () =>
    ++calls > times
      ? Response.json({ calls })
      : Response.json({ error: { message: 'no memory' } }, { status: 503 });
  return { app: { fetch } } as unknown as Server;
}

describe('a line', () => {
  const line: BatchLine = { number: 5, text: requestLine(5) };
  const signal = new AbortController().signal;

  it('is asked again where the server was at fault, so often and no more', async () => {
    const good = await answerLine(failing(1), line, { retries: 1, signal });
    expect(good.response).toMatchObject({ status_code: 200, body: { calls: 2 } });
    const bad = await answerLine(failing(2), line, { retries: 1, signal });
    expect(bad.response).toMatchObject({ status_code: 503 });
  });

  it('waits for no other attempt once it is stopped', async () => {
    const stop = new AbortController();
    const answer = answerLine(failing(9), line, { retries: 9, signal: stop.signal });
    stop.abort();
    await expect(answer).rejects.toThrow(AbortError);
  });

  it.each<[string, (stop: AbortController) => Promise<Response>]>([
    [
      'a pause',
      async (stop) => {
        // Before the first pause of half a second ends.
        setTimeout(() => stop.abort('enough'), 1);
        return Response.json({}, { status: 503 });
      },
    ],
    [
      'an answer',
      async (stop) => {
        stop.abort('enough');
        return Response.json({});
      },
    ],
    [
      'a request',
      async (stop) => {
        stop.abort('enough');
        throw stop.signal.reason;
      },
    ],
  ])('ends with an AbortError where %s is aborted, whose cause is the reason', async (_, fetch) => {
    const stop = new AbortController();
    const server = { app: { fetch: () => fetch(stop) } } as unknown as Server;
    const error = await answerLine(server, line, { retries: 9, signal: stop.signal }).catch(
      (fault: unknown) => fault,
    );
    expect(error).toBeInstanceOf(AbortError);
    expect(error).toMatchObject({ message: 'the batch was aborted', cause: 'enough' });
  });
});

describe('working through', () => {
  async function* numbers(count: number, read: number[] = []) {
    for (let i = 0; i < count; i++) {
      read.push(i);
      yield i;
    }
  }

  it('keeps the order where that is asked for, and else takes what comes', async () => {
    // The first of three takes longest.
    const task = async (n: number) => {
      for (let turn = 0; turn < (n % 3 === 0 ? 30 : 1); turn++) await sleep(0);
      return n;
    };
    const through = async (inOrder: boolean) => {
      const results: number[] = [];
      for await (const n of workThrough(numbers(30), task, { atOnce: 4, inOrder })) results.push(n);
      return results;
    };
    const all = Array.from({ length: 30 }, (_, i) => i);
    expect(await through(true)).toEqual(all);
    const come = await through(false);
    expect(come).not.toEqual(all);
    expect(come.toSorted((a, b) => a - b)).toEqual(all);
  });

  it('begins and reads no more than it may', async () => {
    const read: number[] = [];
    const running = new Set<number>();
    let most = 0;
    let release = () => {};
    const task = async (n: number) => {
      running.add(n);
      most = Math.max(most, running.size);
      // Nothing comes out before the first has.
      if (n === 0) await new Promise<void>((resolve) => (release = resolve));
      else await sleep(0);
      running.delete(n);
      return n;
    };
    const results = workThrough(numbers(1000, read), task, { atOnce: 4, inOrder: true });
    const first = results.next();
    await expect.poll(() => running.size).toBe(1);
    for (let turn = 0; turn < 100; turn++) await sleep(0);
    expect([most, running.size]).toEqual([4, 1]);
    expect(read.length).toBeLessThan(25);
    release();
    expect((await first).value).toBe(0);
    await results.return();
  });

  it('fails as a task does', async () => {
    const task = async (n: number) => {
      if (n === 5) throw new Error('five');
      return n;
    };
    const all = async () => {
      for await (const _ of workThrough(numbers(9), task, { atOnce: 2, inOrder: false }));
    };
    await expect(all()).rejects.toThrow('five');
  });
});

describe('lines of a file', () => {
  it('are read as they are asked for', async () => {
    writeFileSync(input, Array.from({ length: 1000 }, (_, i) => `${i}\n`).join(''));
    const lines: BatchLine[] = [];
    for await (const line of readLines(input)) {
      lines.push(line);
      if (lines.length === 3) break;
    }
    expect(lines).toEqual([1, 2, 3].map((number) => ({ number, text: String(number - 1) })));
    await expect(readLines(folder).next()).rejects.toThrow(folder);
  });

  it('may be longer than a string, and are skipped then', async () => {
    const file = openSync(input, 'w');
    writeSync(file, 'a\n');
    // Zeros, which take no room on the disk.
    ftruncateSync(file, LONGEST_LINE + 100);
    writeSync(file, '\nb\r\n\nc', LONGEST_LINE + 100);
    closeSync(file);
    const lines: BatchLine[] = [];
    for await (const line of readLines(input)) lines.push(line);
    expect(lines).toEqual([
      { number: 1, text: 'a' },
      { number: 2, text: '', isTooLong: true },
      { number: 3, text: 'b' },
      { number: 5, text: 'c' },
    ]);
    const { error } = await answerLine(failing(0), lines[1] as BatchLine, {
      retries: 0,
      signal: new AbortController().signal,
    });
    expect(error?.message).toBe('line 2: it is longer than 134 MB; make several of it');
  });
});
