import { progressDisabled } from '../hub/environment.ts';
import type { ProgressEvent } from '../hub/types.ts';
import { formatBytes, formatDuration } from '../units.ts';

/** Where progress is written; `process.stderr` fits. */
export interface ProgressStream {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

export interface ProgressDisplay {
  onProgress(event: ProgressEvent): void;
  /** Leaves the cursor on a fresh line; call it also after a failure. */
  finish(): void;
}

const REDRAW_MS = 100;
const PLAIN_LINE_MS = 10_000;
const SPEED_WINDOW_MS = 5000;
const BAR_CELLS = 24;

/**
 * Shows a download: bars with bytes, speed and time left on a terminal, a plain line per file (and every ten seconds)
 * elsewhere, nothing when HF_HUB_DISABLE_PROGRESS_BARS asks for silence.
 *
 * @param now clock, ms
 */
export function createProgressDisplay(
  stream: ProgressStream = process.stderr,
  env: Readonly<Record<string, string | undefined>> = process.env,
  now: () => number = () => performance.now(),
): ProgressDisplay {
  if (progressDisabled(env)) return { onProgress: () => {}, finish: () => {} };
  return stream.isTTY ? new BarDisplay(stream, now) : new LineDisplay(stream, now);
}

/** Bytes a second over the last few seconds. What an earlier run had already fetched is no speed. */
class Speed {
  readonly #samples: { at: number; bytes: number }[] = [];

  add(at: number, bytes: number): void {
    this.#samples.push({ at, bytes });
    while (this.#samples.length > 2 && at - (this.#samples[0]?.at ?? at) > SPEED_WINDOW_MS)
      this.#samples.shift();
  }

  get bytesPerSecond(): number {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.at === first.at) return 0;
    return Math.max(0, ((last.bytes - first.bytes) * 1000) / (last.at - first.at));
  }
}

interface FileState {
  event: ProgressEvent;
  readonly speed: Speed;
  lineAt: number;
}

/** "512 MB of 4.0 GB, 52 MB/s, 1 min 07 s left". */
function describe({ event, speed }: FileState): string {
  const { loadedBytes, fileBytes } = event;
  const parts = [`${formatBytes(loadedBytes)} of ${formatBytes(fileBytes)}`];
  const rate = speed.bytesPerSecond;
  if (rate > 0) {
    parts.push(`${formatBytes(rate)}/s`, `${formatDuration((fileBytes - loadedBytes) / rate)} left`);
  }
  return parts.join(', ');
}

/** Files of the load and their speeds, by name. */
class FileStates {
  readonly active = new Map<string, FileState>();

  constructor(private readonly now: () => number) {}

  /** Takes an event in; true when it ends its file. */
  take(event: ProgressEvent): { state: FileState; done: boolean } {
    const at = this.now();
    const state = this.active.get(event.file) ?? { event, speed: new Speed(), lineAt: at };
    state.event = event;
    state.speed.add(at, event.loadedBytes);
    const done = event.loadedBytes >= event.fileBytes;
    if (done) this.active.delete(event.file);
    else this.active.set(event.file, state);
    return { state, done };
  }
}

class LineDisplay implements ProgressDisplay {
  readonly #files: FileStates;

  constructor(
    private readonly stream: ProgressStream,
    private readonly now: () => number,
  ) {
    this.#files = new FileStates(now);
  }

  onProgress(event: ProgressEvent): void {
    const { state, done } = this.#files.take(event);
    if (event.stage === 'quantize' && event.loadedBytes === 0)
      this.stream.write(`${event.file}: ${formatBytes(event.fileBytes)} of rounded weights to be written\n`);
    if (done) this.stream.write(`${event.file}: ${formatBytes(event.fileBytes)}, done\n`);
    else if (this.now() - state.lineAt >= PLAIN_LINE_MS) {
      state.lineAt = this.now();
      this.stream.write(`${event.file}: ${describe(state)}\n`);
    }
  }

  finish(): void {}
}

class BarDisplay implements ProgressDisplay {
  readonly #files: FileStates;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #height = 0;

  constructor(
    private readonly stream: ProgressStream,
    private readonly now: () => number,
  ) {
    this.#files = new FileStates(now);
  }

  onProgress(event: ProgressEvent): void {
    const { done } = this.#files.take(event);
    if (done) this.#draw(`${event.file}  ${formatBytes(event.fileBytes)}`);
    else if (this.now() - this.#drawnAt >= REDRAW_MS) this.#draw();
  }

  finish(): void {
    this.#draw();
    this.#height = 0;
  }

  /** Redraws the block of bars in place; `finished` becomes a lasting line above it. */
  #draw(finished?: string): void {
    this.#drawnAt = this.now();
    const bars = [...this.#files.active.values()].map((state) => this.#bar(state));
    const lines = finished === undefined ? bars : [this.#clip(finished), ...bars];
    const up = this.#height > 0 ? `\x1b[${this.#height}A` : '';
    this.stream.write(`${up}\r\x1b[J${lines.map((line) => `${line}\n`).join('')}`);
    this.#height = bars.length;
  }

  #bar(state: FileState): string {
    const { file, loadedBytes, fileBytes } = state.event;
    const filled = Math.floor((BAR_CELLS * loadedBytes) / Math.max(1, fileBytes));
    return this.#clip(`${file} [${'#'.repeat(filled)}${'.'.repeat(BAR_CELLS - filled)}] ${describe(state)}`);
  }

  /** A wrapped line would upset the redrawing. */
  #clip(line: string): string {
    const width = Math.max(20, (this.stream.columns ?? 80) - 1);
    return line.length > width ? `${line.slice(0, width - 3)}...` : line;
  }
}
