import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const script = (name: string) => import(join(import.meta.dirname, '../../scripts/compare', name));
const { decodeRatios, textReport, visionReport } = await script('summary.mjs');
const { gpuIndex, interval, median, memory, promptsFor, tokenIds } = await script('job.mjs');
const { resultOf, secondsToFirstByte, Server } = await script('run-child.mjs');

const { llamaBench } = await script('peers.mjs');
const { INNER_MODULES } = await script('../modules/inner.mjs');

const node = process.execPath;
const folder = mkdtempSync(join(tmpdir(), 'switchyard-compare-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the report', () => {
  const backend = (name: string, prefill: number, decode: number, tokens = [1, 2, 3]) => ({
    name,
    prefill: { 100: prefill },
    decode,
    tokens,
  });
  const hello = (load: number) => ({ load, version: 'a version', memory: { own: 50e6, mapped: 2e9 } });
  /** A turn in which everything takes `slow` times as long. */
  const turn = (slow: number, extra: unknown[] = []) => ({
    machine: { read: 20 / slow, pattern: 'a pattern', gigaflops: 400 },
    results: {
      Switchyard: [backend('grouped_mm', 0.5 * slow, 0.1 * slow)],
      transformers: [
        backend('grouped_mm', 1.5 * slow, 0.4 * slow, [1, 2, 9]),
        backend('eager', slow, 0.5 * slow),
        ...extra,
      ],
    },
  });
  const work = {
    model: 'qwen',
    dtype: 'bfloat16',
    threads: 2,
    prompts: [100],
    newTokens: 2,
    bytesPerToken: 1e9,
    flops: { 100: 100e9 },
  };
  const report: string = textReport(
    {
      starts: { Switchyard: [1, 2, 4], transformers: [10, 20, 40] },
      duels: [
        {
          hellos: { Switchyard: hello(0.1), transformers: hello(5) },
          turns: [turn(1, [backend('batched_mm', 4, 4)]), turn(2), turn(4)],
        },
      ],
    },
    work,
  );

  test('gives medians over turns, and what a backend did not run as a dash', () => {
    expect(report).toContain(
      '| Switchyard grouped_mm | 0.100 | 2.00 (1.00–4.00) | 100 (50.0–200) | 5.00 (2.50–10.0) | 50.0 | 2.00 |',
    );
    expect(report).toContain('| transformers batched_mm |  |  | 25.0 | 0.250 |  |  |');
  });

  test('takes ratios within a turn, over the best backend for each measure', () => {
    expect(report).toContain('| Switchyard ÷ the best of transformers | 10.0 × | 2.00 × | 4.00 × |');
  });

  test('relates decoding to the read rate beside it', () => {
    expect(report).toMatch(
      /grouped_mm reads 5\.00 \(2\.50–10\.0\) GB\/s, 50\.0 % of the best read rate .*at most 20\.0 GB\/s/,
    );
    expect(report).toMatch(/prefill does 100 GFLOP\/s at 100 tokens; .* 400 GFLOP\/s/);
  });

  test('counts the tokens on which all agree', () => {
    expect(report).toContain('transformers grouped_mm 2, transformers eager 3, transformers batched_mm 3.');
  });

  test('sets decoding on a GPU beside its copy rate, plain and with recorded steps', () => {
    const recorded = backend('grouped_mm recorded', 0, 0.05);
    const turns = [turn(1), turn(2)].map(({ results, machine }) => ({
      machine: { read: machine.read * 10, pattern: 'copies' },
      results: { ...results, Switchyard: [...results.Switchyard, { ...recorded, prefill: {} }] },
    }));
    const hellos = { Switchyard: hello(0.1), transformers: hello(5) };
    const duels = [{ hellos, turns }];
    expect(decodeRatios(duels, 'grouped_mm recorded')).toEqual([{ peer: 'transformers', ratios: [8, 16] }]);
    expect(decodeRatios(duels, 'nothing')).toEqual([]);
    const text: string = textReport(
      { starts: { Switchyard: [1], transformers: [10] }, duels },
      { ...work, device: 'cuda' },
    );
    expect(text).toContain('| Switchyard grouped_mm recorded |  |  | – | 20.0 |  |  |');
    expect(text).toContain(
      'With recorded steps Switchyard grouped_mm decodes 12.0 (8.00–16.0) × as fast as transformers.',
    );
    expect(text).toMatch(
      /\(200 GB\/s\) grouped_mm reaches 3\.75 \(2\.50–5\.00\) %, grouped_mm recorded reaches 10\.0 %/,
    );
    expect(text).not.toMatch(/GFLOP/);
  });

  test('leaves open what a peer cannot tell', () => {
    const untold = ({ tokens: _, ...rest }: ReturnType<typeof backend>) => rest;
    const turns = [1, 2].map((slow) => {
      const { results, machine } = turn(slow);
      const theirs = [backend('in place', slow, 0.2), backend('repacked', 0.4 * slow, 0.3)].map(untold);
      return { machine, results: { Switchyard: results.Switchyard, 'llama-bench': theirs } };
    });
    const hellos = { Switchyard: hello(0.1), 'llama-bench': { version: 'llama-bench abc' } };
    const text: string = textReport({ starts: { Switchyard: [1] }, duels: [{ hellos, turns }] }, work);
    expect(text).toContain('| llama-bench in place | – | – | 75.0 (50.0–100) | 5.00 | – | – |');
    expect(text).toContain('| llama-bench repacked |  |  | 188 (125–250) | 3.33 |  |  |');
    expect(text).toContain('| Switchyard ÷ the best of llama-bench | – | 0.800 × | 1.50 (1.00–2.00) × |');
    expect(text).not.toMatch(/agree/);
  });

  test('sets vision towers beside each other', () => {
    const rounds = [1, 2].map((slow) => ({
      peers: {
        Switchyard: { vision: { load: 0.1, version: 'ours', seconds: 2 * slow, norm: 10 } },
        transformers: { vision: { load: 9, version: 'theirs', seconds: 3 * slow, norm: 10 } },
      },
    }));
    const vision: string = visionReport(rounds, { ...work, grid: [1, 64, 64] });
    expect(vision).toContain('1024 × 1024 pixels: 4096 patches');
    expect(vision).toContain('| transformers | 9.00 | 4.50 (3.00–6.00) |');
    expect(vision).toContain('1.50 × as fast as transformers; the norms of both outputs stand as 1.0000 : 1');
  });
});

describe('a timing process', () => {
  test('gets ids within the vocabulary, no two alike in a prompt', () => {
    const ids: number[] = tokenIds(512, 3, 151936);
    expect(new Set(ids).size).toBe(512);
    expect(Math.max(...ids)).toBeLessThan(151936);
    expect(tokenIds(512, 4, 151936)).not.toEqual(ids);
  });

  test('asks short prompts only of batched_mm', () => {
    expect(promptsFor('batched_mm', [16, 128, 512])).toEqual([16, 128]);
    expect(promptsFor('eager', [16, 128, 512])).toEqual([16, 128, 512]);
    expect(promptsFor('eager recorded', [16, 128, 512])).toEqual([]);
  });

  test('counts GPUs from 0', () => {
    expect(['cpu', 'cuda', 'cuda:2'].map((device) => gpuIndex(device))).toEqual([undefined, 0, 2]);
  });

  test('takes medians', () => {
    expect(median([5, 1, 2, 9])).toBe(3.5);
    expect(interval([1000, 1100, 1900, 2100])).toBeCloseTo(0.2, 12);
    expect(memory().own).toBeGreaterThan(1e6);
  });

  test('answers with its last line', async () => {
    const code = 'console.log("chatter"); console.log(JSON.stringify({ a: process.argv[1] }))';
    expect(await resultOf(node, ['-e', code, 'given'])).toEqual({ a: 'given' });
  });

  test('that serves answers requests in turn, past its chatter', async () => {
    const code = `
      const { serve } = await import(process.argv[1]);
      await serve({ load: 1 }, async ({ double }) => (console.log('chatter'), { doubled: 2 * double }));`;
    const job = join(import.meta.dirname, '../../scripts/compare/job.mjs');
    const server = await Server.start(node, ['--input-type=module', '-e', code, job]);
    expect(server.hello).toEqual({ load: 1 });
    expect(await server.ask({ double: 4 })).toEqual({ doubled: 8 });
    expect(await server.ask({ double: 5 })).toEqual({ doubled: 10 });
    await server.stop();
    const broken = 'console.error("no such weights"); process.exit(3)';
    await expect(Server.start(node, ['-e', broken])).rejects.toThrow(/ended with 3: no such weights/);
  });

  test('has the modules of src bundled that it imports', () => {
    const scripts = join(import.meta.dirname, '../../scripts');
    const files = (readdirSync(scripts, { recursive: true }) as string[]).filter((name) =>
      name.endsWith('.mjs'),
    );
    const imported = files.flatMap((file) =>
      [
        ...readFileSync(join(scripts, file), 'utf8').matchAll(/dist-scripts\/(.+)\.js'|'(.+)\.js', inner/g),
      ].map(([, direct, late]) => direct ?? late),
    );
    expect([...new Set(imported)].sort()).toEqual([...INNER_MODULES].sort());
    for (const module of INNER_MODULES)
      expect(readFileSync(join(scripts, '../src', `${module}.ts`), 'utf8')).not.toBe('');
  });

  test('that fails is an error with what it said', async () => {
    await expect(resultOf(node, ['-e', 'console.error("no such weights"); process.exit(3)'])).rejects.toThrow(
      /ended with 3: no such weights/,
    );
    await expect(resultOf('./no/such/program', [])).rejects.toThrow(/cannot be started/);
  });

  test('is timed to its first output, not to its end', async () => {
    // More than pipes hold: the wait begins when the reader has read.
    const code = 'process.stdout.write("x".repeat(4e6), () => setTimeout(() => {}, 300))';
    const started = performance.now();
    const seconds = await secondsToFirstByte(node, ['-e', code]);
    expect((performance.now() - started) / 1000 - seconds).toBeGreaterThan(0.25);
  });
});

describe('llama-bench', () => {
  const program = (name: string, help: string) => {
    const path = join(folder, name);
    // Says as its times what it was asked for.
    const code = `#!${node}
      const args = process.argv.slice(2);
      const of = (name) => Number(args[args.indexOf(name) + 1]);
      if (args.includes('--help')) console.log(${JSON.stringify(help)});
      else if (args.includes('-rtr') && !${JSON.stringify(help)}.includes('-rtr')) process.exit(1);
      else {
        const times = [9, 1, 5].map((time) => (time * of('-p') || 2 * time * of('-n')) * 1e9 * (args.includes('-rtr') ? 10 : 1));
        console.error('chatter');
        console.log(JSON.stringify([{ build_commit: 'abc', threads: of('-t'), samples_ns: times }], null, 2));
      }`;
    writeFileSync(path, code, { mode: 0o755 });
    return path;
  };
  const gguf = join(folder, 'weights.gguf');
  writeFileSync(gguf, '');

  test('is asked for one measure at a time, in place and repacked', async () => {
    const peer = llamaBench({ llamaBench: program('ik', 'options: -p -n -rtr <0|1>'), gguf });
    expect(peer.backends(0)).toEqual(['in place', 'repacked']);
    const [command, ...args] = peer.job({
      task: 'serve',
      device: 'cpu',
      threads: 2,
      prompts: [128],
      newTokens: 4,
    });
    const server = await Server.start(command, args);
    expect(server.hello).toEqual({ version: 'llama-bench abc' });
    expect(await server.ask({ prefill: 128, backend: 'in place', run: 0 })).toEqual({ seconds: 640 });
    expect(await server.ask({ prefill: 128, backend: 'repacked', run: 0 })).toEqual({ seconds: 6400 });
    // Of four tokens, each the median's quarter.
    expect(await server.ask({ decode: 4, backend: 'in place' })).toEqual({ seconds: 10 });
    await server.stop();
  });

  test('of llama.cpp has no weights to repack', () => {
    expect(llamaBench({ llamaBench: program('plain', '-p -n'), gguf }).backends(0)).toEqual(['in place']);
  });

  test('is left out unless asked for, and must be there then', () => {
    expect(llamaBench({ gguf })).toBeUndefined();
    expect(() => llamaBench({ llamaBench: join(folder, 'absent'), gguf })).toThrow(
      /absent cannot be started/,
    );
    expect(() => llamaBench({ llamaBench: program('ik', ''), gguf: join(folder, 'no.gguf') })).toThrow(
      /needs weights: --gguf is .*no\.gguf/,
    );
  });
});
