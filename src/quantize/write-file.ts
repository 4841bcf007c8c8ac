import { type FileHandle, open } from 'node:fs/promises';
import { abortIf } from '../errors.ts';
import { type FileLayout, layOut, type TensorPlace } from '../safetensors/writer.ts';
import type { Task, Unit, Write } from './rounded-matrix.ts';

export interface WriteOptions {
  /** Tasks at a time. */
  readonly threads: number;
  readonly signal?: AbortSignal | undefined;
  /** Hears of bytes that have been written since it was last called. */
  readonly onBytes?: (bytes: number) => void;
}

/** The layout of a file for some units. */
export function layOutUnits(units: readonly Unit[]): FileLayout {
  return layOut(
    units.flatMap(({ tensors }) => tensors),
    { format: 'pt' },
  );
}

/**
 * Writes a safetensors file, which must not exist; memory holds what `threads` tasks need and no more.
 * @throws whatever tasks and the file system throw; AbortError
 */
export async function writeUnits(path: string, units: readonly Unit[], options: WriteOptions): Promise<void> {
  const { header, places, bytes } = layOutUnits(units);
  const file = await open(path, 'wx');
  try {
    await file.truncate(bytes);
    await writeAll(file, header, 0);
    const write: Write = (tensor, offset, data) =>
      writeAll(file, data, (places.get(tensor) as TensorPlace).offset + offset);
    await runTasks(units, write, options);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function runTasks(
  units: readonly Unit[],
  write: Write,
  { threads, signal, onBytes }: WriteOptions,
): Promise<void> {
  const tasks = tasksOf(units);
  let failed = false;
  const worker = async () => {
    try {
      for (let next = tasks.next(); !next.done && !failed; next = tasks.next()) {
        abortIf(signal, 'quantizing');
        await next.value.run(write);
        onBytes?.(next.value.bytes);
      }
    } catch (error) {
      failed = true;
      throw error;
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: threads }, worker));
  for (const one of ended) if (one.status === 'rejected') throw one.reason;
}

function* tasksOf(units: readonly Unit[]): Generator<Task> {
  for (const unit of units) yield* unit.tasks();
}

async function writeAll(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    const { bytesWritten } = await file.write(data, done, data.length - done, position + done);
    done += bytesWritten;
  }
}
