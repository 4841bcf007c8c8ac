import { cpus, release, totalmem, type } from 'node:os';
import { cpuInfo, measureFlops, measureReadBandwidth } from '../runtime/machine.ts';
import type { MachineReport } from './report.ts';

/** Time given to each measurement of each run. */
const SECONDS = 0.3;

/** Measures again and again what the machine can do, and keeps the best: others on it only ever slow it down. */
export class MachineGauge {
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

  /** What was found so far. */
  report(): MachineReport {
    return {
      cpu: cpus()[0]?.model.trim() ?? 'unknown CPU',
      isa: cpuInfo().isa,
      memoryBytes: totalmem(),
      os: `${type()} ${release()}`,
      node: process.versions.node,
      readGigabytesPerSecond: this.#read.gigabytesPerSecond,
      readPattern: this.#read.pattern,
      gigaflopsPerSecond: this.#gigaflops,
    };
  }
}
