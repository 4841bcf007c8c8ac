// Starts the timing processes and talks to them.
import { spawn } from 'node:child_process';
import { createReadStream, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/**
 * Runs a process to its end and resolves to the JSON of its last line.
 * @throws Error with the end of what it wrote to stderr
 */
export async function resultOf(command, args) {
  return JSON.parse((await outputOf(command, args)).trim().split('\n').at(-1));
}

/** Runs a process to its end and resolves to what it printed. @throws Error with the end of what it wrote to stderr */
export async function outputOf(command, args) {
  const { stdout } = await finished(spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] }), command);
  return stdout;
}

/** Seconds from the start of a process to the first byte it prints. */
export async function secondsToFirstByte(command, args) {
  const started = performance.now();
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let seconds;
  child.stdout.once('data', () => {
    seconds = (performance.now() - started) / 1000;
  });
  await finished(child, command);
  if (seconds === undefined) throw new Error(`${command} printed nothing`);
  return seconds;
}

/** A timing process that answers requests, one at a time; see job.mjs. */
export class Server {
  #child;
  #ended;
  #lines;

  /** @throws Error, also later from `ask`, with the end of what the process wrote to stderr */
  static async start(command, args) {
    const server = new Server(command, args);
    server.hello = await server.#next();
    return server;
  }

  constructor(command, args) {
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stdin.on('error', () => {}); // a process that is gone: what it said comes from #ended
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    this.#ended = finished(this.#child, command);
    this.#ended.catch(() => {});
  }

  async ask(request) {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    return this.#next();
  }

  /** Ends the input and waits for the process to end. */
  async stop() {
    this.#child.stdin.end();
    await this.#ended;
  }

  kill() {
    this.#child.kill('SIGKILL');
  }

  async #next() {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) {
        await this.#ended;
        throw new Error('a timing process ended without an answer');
      }
      if (value.startsWith('{')) return JSON.parse(value);
    }
  }
}

function finished(child, command) {
  return new Promise((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.on('error', (error) => reject(new Error(`${command} cannot be started: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0) resolve({ stdout });
      else reject(new Error(`${command} ended with ${signal ?? code}: ${stderr.trim().slice(-600)}`));
    });
  });
}

/** Reads a file, or the weights in a folder, once, so that they lie in the page cache. */
export async function warmFiles(path) {
  const files = statSync(path).isDirectory()
    ? readdirSync(path)
        .filter((name) => name.endsWith('.safetensors'))
        .map((name) => join(path, name))
    : [path];
  for (const file of files) {
    const stream = createReadStream(file, { highWaterMark: 8 << 20 });
    for await (const _ of stream);
  }
}
