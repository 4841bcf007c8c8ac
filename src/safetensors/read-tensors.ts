import { open } from 'node:fs/promises';
import { CheckpointError } from '../errors.ts';
import { reading } from '../files.ts';
import type { TensorInfo } from './types.ts';

/** Tensors that lie closer together than this are read in one go. */
const GAP_BYTES = 64 * 1024;
/** Most bytes of one such read. */
const SPAN_BYTES = 16 * 2 ** 20;

/**
 * The bytes of small tensors, in their order. What lies together is read together, so that thousands of them take a few reads.
 * @throws CheckpointError for a file that ends before them; HubError where the system does not let it be read
 */
export async function readTensors(tensors: readonly TensorInfo[]): Promise<Buffer[]> {
  const bytes = new Map<TensorInfo, Buffer>();
  for (const file of new Set(tensors.map((tensor) => tensor.file))) {
    const own = new Set(tensors.filter((tensor) => tensor.file === file));
    const handle = await reading(file, () => open(file));
    try {
      for (const span of spansOf(own)) {
        const buffer = Buffer.alloc(span.end - span.start);
        const { bytesRead } = await reading(file, () => handle.read(buffer, 0, buffer.length, span.start));
        if (bytesRead < buffer.length)
          throw new CheckpointError(
            `${file} ends at byte ${span.start + bytesRead}, before ${span.tensors.at(-1)?.name}`,
          );
        for (const tensor of span.tensors) {
          const start = tensor.offset - span.start;
          bytes.set(tensor, buffer.subarray(start, start + tensor.byteLength));
        }
      }
    } finally {
      await handle.close();
    }
  }
  return tensors.map((tensor) => bytes.get(tensor) as Buffer);
}

interface Span {
  readonly start: number;
  readonly end: number;
  readonly tensors: readonly TensorInfo[];
}

function spansOf(tensors: Iterable<TensorInfo>): Span[] {
  const spans: { start: number; end: number; tensors: TensorInfo[] }[] = [];
  for (const tensor of [...tensors].sort((a, b) => a.offset - b.offset)) {
    const last = spans.at(-1);
    const end = tensor.offset + tensor.byteLength;
    if (last && tensor.offset - last.end <= GAP_BYTES && end - last.start <= SPAN_BYTES) {
      last.end = Math.max(last.end, end);
      last.tensors.push(tensor);
    } else spans.push({ start: tensor.offset, end, tensors: [tensor] });
  }
  return spans;
}
