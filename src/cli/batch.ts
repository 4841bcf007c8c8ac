import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import type { BatchLine, BatchResult, DeadLetters } from '../batch/index.ts';
import { isReadableFile, unreadable, unwritable } from '../files.ts';
import { withLock } from '../hub/cache/lock.ts';
import { DEMO_MODEL } from '../index.ts';
import { counted } from '../units.ts';
import { BatchProgress } from './batch-progress.ts';
import { END, ending } from './ending.ts';
import { type Io, UsageError } from './io.ts';
import { loadModel, type ModelFlags } from './load-model.ts';
import { addComputeOptions, decimal, examples, experts, given, integer, requireDevice } from './options.ts';

interface Flags extends ModelFlags {
  model?: string;
  name?: string;
  atOnce?: number;
  asTheyCome?: true;
  retries?: number;
  deadLetters?: string;
  queue?: string;
  queueName?: string;
  stalledAfter?: number;
}

/** Who answers lines: a model here, or the workers of a queue. */
interface Answerer {
  answer(line: BatchLine): Promise<BatchResult>;
  /** Told the number of a line whose result is in the file. */
  written(line: number): Promise<void>;
  close(): Promise<void>;
}

const AT_ONCE = 8;
const RETRIES = 2;
const STALLED_AFTER = 30;
/** Lines in a queue at once, for any number of workers. */
const IN_QUEUE = 256;

const EXAMPLES = examples(
  ['switchyard batch requests.jsonl results.jsonl -m Qwen/Qwen3-30B-A3B', 'again, after a kill: goes on'],
  ['switchyard batch --queue redis://host -m Qwen/Qwen3-30B-A3B', 'a worker, on any machine'],
  ['switchyard batch requests.jsonl results.jsonl --queue redis://host', 'has the workers answer'],
);

/** `switchyard batch`: answers a file of requests in OpenAI's batch format, here or by the workers of a queue. */
export function addBatchCommand(program: Command, io: Io): void {
  const command = program
    .command('batch')
    .description("Answer a file of requests, in OpenAI's batch format, and go on where an earlier run ended.")
    .argument('[in]', 'a request a line; without files, with --queue, a worker runs')
    .argument('[out]', 'a result a line is added here')
    .option('-m, --model <model>', 'a repo on the Hugging Face Hub, or a folder')
    .option('--revision <revision>', 'branch, tag or commit of the repo')
    .option('--name <name>', 'how requests name the model (default: as --model does)')
    .option('--experts <spec>', 'experts backend: a name, or key=name,key=name', experts)
    .option('--at-once <n>', `requests answered at once (default: ${AT_ONCE})`, integer(1))
    .option('--as-they-come', 'write results as they come, not in the order of the requests')
    .option(
      '--retries <n>',
      `further attempts where the fault is the server's (default: ${RETRIES})`,
      integer(0, 100),
    )
    .option('--dead-letters <file>', 'add the requests that failed in spite of that to this file')
    .option('--queue <url>', 'a Redis, redis://host:6379, through which workers are handed requests')
    .option('--queue-name <name>', 'tells queues of one Redis apart')
    .option(
      '--stalled-after <seconds>',
      `with --queue: when a silent worker counts as gone (default: ${STALLED_AFTER})`,
      decimal({ least: 1 }),
    );
  addComputeOptions(command)
    .addHelpText('after', EXAMPLES)
    .action((input: string | undefined, output: string | undefined, flags: Flags) =>
      batch(input, output, flags, io),
    );
}

async function batch(
  input: string | undefined,
  output: string | undefined,
  flags: Flags,
  io: Io,
): Promise<void> {
  checkFlags(input, output, flags);
  await requireDevice(flags.device);
  if (input === undefined || output === undefined) return work(flags, io);
  // One run at a time adds to a file.
  await withLock(
    `${resolve(output)}.lock`,
    io.stop,
    () => drain(input, output, flags, io),
    (owner) => io.stderr.write(`process ${owner} writes to ${output}; waiting for it\n`),
  ).catch((error: unknown) => {
    // What has a file system's code is of the lock.
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    throw unwritable(output, error);
  });
}

/** Options of a model, of which a run that only hands out requests has none. */
const OF_MODELS = Object.keys({
  ...{ model: true, name: true, revision: true, experts: true, dtype: true, device: true, threads: true },
  ...{ maxMemory: true, maxCache: true, pinExperts: true, pinMemory: true, weights: true, compile: true },
  ...{ quantize: true, int8Activations: true, atOnce: true, stalledAfter: true },
} satisfies Record<OfModels, true>) as OfModels[];
/** `decodeWithBatchedMm` has a value in any case. */
type OfModels =
  | Exclude<keyof ModelFlags, 'decodeWithBatchedMm'>
  | 'model'
  | 'name'
  | 'atOnce'
  | 'stalledAfter';
/** Options of a run that has files. */
const OF_FILES = ['asTheyCome', 'retries', 'deadLetters'] as const satisfies (keyof Flags)[];

/** @throws UsageError for what is missing, and for options that would have no effect */
function checkFlags(input: string | undefined, output: string | undefined, flags: Flags): void {
  const { queue, deadLetters } = flags;
  if (input === undefined && queue === undefined)
    throw new UsageError('name a file of requests and one for the results, or a --queue to work for');
  if (input !== undefined && output === undefined)
    throw new UsageError(`name a file for the results of ${input}, too`);
  if (input !== undefined && output !== undefined && resolve(input) === resolve(output))
    throw new UsageError(`${input} cannot be the file of the requests and of the results`);
  const files = [input, output].map((file) => file && resolve(file));
  if (deadLetters !== undefined && files.includes(resolve(deadLetters)))
    throw new UsageError(
      `--dead-letters ${deadLetters} is the file of the requests or of the results; name another`,
    );
  const isClient = queue !== undefined && input !== undefined;
  const strays = isClient ? OF_MODELS : input === undefined ? OF_FILES : [];
  const stray = strays.find((name) => flags[name] !== undefined);
  if (stray !== undefined)
    throw new UsageError(
      `${optionOf(stray)} ${isClient ? "is the workers' affair" : 'is the affair of who names files'}; leave it out here`,
    );
  const ofQueues = (['queueName', 'stalledAfter'] as const).find((name) => flags[name] !== undefined);
  if (ofQueues !== undefined && queue === undefined)
    throw new UsageError(`${optionOf(ofQueues)} belongs to --queue`);
}

function optionOf(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** Answers what is left of a file. */
async function drain(input: string, output: string, flags: Flags, io: Io): Promise<void> {
  const { countRequests, DeadLetters, isServersFault, readLines, ResultsFile, workThrough } = await import(
    '../batch/index.ts'
  );
  // It is read more than once.
  if (!(await isReadableFile(input))) throw unreadable(input, { code: 'ENOENT' });
  const total = await countRequests(input);
  const results = await ResultsFile.open(output);
  let deadLetters: DeadLetters | undefined;
  try {
    const left = async function* () {
      for await (const line of readLines(input)) if (!results.has(line)) yield line;
    };
    const dead = async function* () {
      for await (const line of readLines(input))
        if (results.has(line) && results.earlier.dead.has(line.number)) yield line;
    };
    if (flags.deadLetters !== undefined) deadLetters = await DeadLetters.open(flags.deadLetters, dead);
    const progress = new BatchProgress(io.stderr, total, results.earlier);
    // Where all is done, no model need be loaded; a queue may still hold the last of it.
    if (flags.queue === undefined && (await isEmpty(left()))) return progress.finish();
    const answerer = await openAnswerer(input, flags, io);
    try {
      if (results.earlier.last !== undefined) await answerer.written(results.earlier.last);
      const task = async (line: BatchLine) => ({ line, result: await answerer.answer(line) });
      const atOnce = flags.queue === undefined ? (flags.atOnce ?? AT_ONCE) : IN_QUEUE;
      for await (const { line, result } of workThrough(left(), task, {
        atOnce,
        inOrder: !flags.asTheyCome,
      })) {
        // In this order: after a kill in between, the results say what is to be done.
        await results.add(result);
        if (isServersFault(result)) await deadLetters?.add(line);
        await answerer.written(line.number);
        progress.add(result);
      }
      progress.finish();
    } finally {
      await answerer.close();
    }
  } finally {
    await deadLetters?.close();
    await results.close();
  }
}

/** What was read to find out is given up. */
async function isEmpty(items: AsyncGenerator<unknown, void, undefined>): Promise<boolean> {
  try {
    return (await items.next()).done === true;
  } finally {
    await items.return();
  }
}

async function openAnswerer(input: string, flags: Flags, io: Io): Promise<Answerer> {
  const { retries = RETRIES } = flags;
  if (flags.queue !== undefined) {
    const { DEFAULT_QUEUE, QueueClient, withoutPassword } = await importQueue();
    const queueName = flags.queueName === undefined ? '' : ` --queue-name ${flags.queueName}`;
    const worker = `switchyard batch --queue ${withoutPassword(flags.queue)}${queueName} -m MODEL`;
    const client = await QueueClient.open({
      ...{ url: flags.queue, name: flags.queueName ?? DEFAULT_QUEUE, retries },
      batch: await hashOf(input),
      signal: io.stop,
      onError: report(io),
      onNoWorker: () => io.stderr.write(`waiting for a worker; "${worker}" starts one, on any machine\n`),
    });
    return {
      answer: (line) => client.answer(line),
      written: (line) => client.written(line),
      close: () => client.close(),
    };
  }
  const { answerLine } = await import('../batch/index.ts');
  const { server, dispose } = await openServer(flags, io);
  const over = new AbortController();
  const signal = AbortSignal.any([io.stop, over.signal]);
  return {
    answer: (line) => answerLine(server, line, { retries, signal }),
    written: async () => {},
    // Answers that nobody waits for any more, as after a fault, end before the model does.
    close: async () => {
      over.abort();
      await dispose();
    },
  };
}

/** Works for a queue until told to end: it finishes what it has begun then. */
async function work(flags: Flags, io: Io): Promise<void> {
  const { DEFAULT_QUEUE, startWorker } = await importQueue();
  const { server, name, dispose } = await openServer(flags, io);
  try {
    let answered = 0;
    const close = await startWorker(server, {
      ...{ url: flags.queue as string, name: flags.queueName ?? DEFAULT_QUEUE },
      ...{ atOnce: flags.atOnce ?? AT_ONCE, stalledAfter: flags.stalledAfter ?? STALLED_AFTER },
      onError: report(io),
      onAnswer: () => answered++,
    });
    io.stderr.write(`${name} works for the queue; ${END} ends it in order\n`);
    await ending(io.stop);
    await close(io.stop.aborted);
    io.stderr.write(`${counted(answered, 'request')} answered\n`);
  } finally {
    await dispose();
  }
}

/** A server that is reached without a port. */
async function openServer(flags: Flags, io: Io) {
  const source = flags.model ?? DEMO_MODEL;
  const model = await loadModel(source, flags, io);
  const { createServer } = await import('../server/index.ts');
  const name = flags.name ?? source;
  const server = createServer(
    { model, name },
    given({
      ...{ maxRunning: flags.atOnce ?? AT_ONCE, maxWaiting: Number.MAX_SAFE_INTEGER },
      maxBodies: Number.MAX_SAFE_INTEGER,
      page: false,
      onError: report(io),
    }),
  );
  return { server, name, dispose: () => model.dispose() };
}

function report(io: Io): (error: unknown) => void {
  return (error) => io.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
}

/** @throws UsageError where the packages are not installed */
async function importQueue() {
  try {
    return await import('../batch/queue/index.ts');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new UsageError('--queue needs two packages more: npm install bullmq ioredis', { cause: error });
  }
}

async function hashOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex').slice(0, 16);
}
