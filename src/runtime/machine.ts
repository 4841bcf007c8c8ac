/** What this machine is and can do. */
import { cpus } from 'node:os';
import { loadBinding } from './binding.ts';
import { guard } from './native-error.ts';
import { defaultThreads } from './threads.ts';

export interface CpuInfo {
  /** Instruction set of the kernels in use, such as `avx512_bf16`; SWITCHYARD_CPU_ISA selects another. */
  readonly isa: string;
  /** Instruction sets this processor could use, best first. */
  readonly features: readonly string[];
}

/** @throws EngineError when the engine cannot be loaded. */
export function cpuInfo(): CpuInfo {
  const { isa, features } = loadBinding().cpuInfo();
  return { isa, features };
}

/** Bytes of a large page of memory; 0 where the system gives this process none. @throws EngineError as {@link cpuInfo} */
export function largePageBytes(): number {
  return loadBinding().cpuInfo().largePageBytes;
}

/** The processor's name, as it calls itself. */
export function cpuModel(): string {
  return cpus()[0]?.model.trim() ?? 'unknown CPU';
}

export interface ReadBandwidth {
  /** 1e9 bytes a second, of the best access pattern. */
  readonly gigabytesPerSecond: number;
  readonly pattern: string;
}

/**
 * Bandwidth of reading memory with all threads; takes a little longer than `seconds`, off the event loop.
 *
 * @param options.bytes size of the buffer read; must be much larger than the caches. Default 512 MiB
 */
export async function measureReadBandwidth(
  options: { bytes?: number; seconds?: number; threads?: number } = {},
): Promise<ReadBandwidth> {
  const { bytes = 512 * 1024 ** 2, seconds = 1, threads = defaultThreads() } = options;
  return guard(() => loadBinding().measureReadBandwidth(bytes, seconds, threads));
}

/** GFLOP/s of the fastest product with bfloat16 weights held in cache, with all threads, off the event loop. */
export async function measureFlops(
  precision: 'float32' | 'bfloat16',
  options: { seconds?: number; threads?: number } = {},
): Promise<number> {
  const { seconds = 1, threads = defaultThreads() } = options;
  return guard(() => loadBinding().measureFlops(precision === 'bfloat16' ? 1 : 0, seconds, threads));
}
