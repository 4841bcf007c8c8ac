// Starts the timing processes, one at a time.
import { spawn } from 'node:child_process';
import { createReadStream, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Runs a process to its end and resolves to the JSON of its last line.
 * @throws Error with the end of what it wrote to stderr
 */
export async function resultOf(command, args) {
  const { stdout } = await finished(spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] }), command);
  return JSON.parse(stdout.trim().split('\n').at(-1));
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
