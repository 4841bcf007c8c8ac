import { release, totalmem, type } from 'node:os';
import type { Device } from '../runtime/device.ts';
import { cpuInfo, cpuModel, measureFlops, measureReadBandwidth } from '../runtime/machine.ts';
import type { MachineReport } from './report.ts';

/** Time given to each measurement of each run. */
const SECONDS = 0.3;

/** What a benchmark stands beside: what the machine could do. */
export interface Gauge {
  measure(): Promise<void>;
  /** What was found so far. */
  report(): MachineReport;
}

/** Measures again and again what the CPU can do, and keeps the best: others on it only ever slow it down. */
export class CpuGauge implements Gauge {
  readonly #precision: 'float32' | 'bfloat16';
  readonly #threads: number;
  #read = { gigabytesPerSecond: 0, pattern: '' };
  #gigaflops = 0;

  constructor(precision: 'float32' | 'bfloat16', threads: number) {
    this.#precision = precision;
    this.#threads = threads;
  }

  /** @throws EngineError when the engine cannot be loaded */
  async measure(): Promise<void> {
    const options = { seconds: SECONDS, threads: this.#threads };
    const read = await measureReadBandwidth(options);
    if (read.gigabytesPerSecond > this.#read.gigabytesPerSecond) this.#read = read;
    this.#gigaflops = Math.max(this.#gigaflops, await measureFlops(this.#precision, options));
  }

  report(): MachineReport {
    return {
      ...hostReport(),
      readGigabytesPerSecond: this.#read.gigabytesPerSecond,
      readPattern: this.#read.pattern,
      gigaflopsPerSecond: this.#gigaflops,
    };
  }
}

/** Measures a GPU's memory; it wants room for a copy there, so before a model is loaded. */
export class GpuGauge implements Gauge {
  readonly #device: Device;
  #copy = 0;

  constructor(device: Device) {
    this.#device = device;
  }

  /** @throws EngineError when the GPU has no room or fails */
  async measure(): Promise<void> {
    this.#copy = Math.max(this.#copy, await this.#device.measureCopyRate());
  }

  report(): MachineReport {
    const { name, major, minor, totalBytes } = this.#device.info;
    return {
      ...hostReport(),
      gpu: { name, computeCapability: `${major}.${minor}`, memoryBytes: totalBytes },
      readGigabytesPerSecond: this.#copy,
      readPattern: 'copies within its memory, read and written bytes counted',
    };
  }

  /** Bytes in use now, by whoever. */
  memoryInUse(): number {
    const { totalBytes, freeBytes } = this.#device.info;
    return totalBytes - freeBytes;
  }
}

function hostReport() {
  return {
    cpu: cpuModel(),
    isa: cpuInfo().isa,
    memoryBytes: totalmem(),
    os: `${type()} ${release()}`,
    node: process.versions.node,
  };
}
