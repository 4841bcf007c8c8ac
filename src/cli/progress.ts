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
  /** Writes lines, such as warnings: bars that are shown stay below them. */
  write(text: string): void;
  /** Leaves the cursor on a fresh line; call it also after a failure. */
  finish(): void;
}

const REDRAW_MS = 100;
/** Where nothing comes, the speed is to sink. */
const IDLE_REDRAW_MS = 1000;
const PLAIN_LINE_MS = 10_000;
const SPEED_WINDOW_MS = 5000;
const BAR_CELLS = 24;

/**
 * Shows downloads and loads: on a terminal a bar for each file under way and a line for all of them, with bytes, speed and time left;
 * elsewhere a plain line for each file, and one for all every ten seconds. What lasts no time is not shown, and nothing when
 * HF_HUB_DISABLE_PROGRESS_BARS asks for silence.
 *
 * @param now clock, ms
 */
export function createProgressDisplay(
  stream: ProgressStream = process.stderr,
  env: Readonly<Record<string, string | undefined>> = process.env,
  now: () => number = () => performance.now(),
): ProgressDisplay {
  const write = (text: string) => void stream.write(text);
  if (progressDisabled(env)) return { onProgress: () => {}, write, finish: () => {} };
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

  bytesPerSecond(now: number): number {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.at === first.at) return 0;
    // Silence counts once it is longer than the gaps between samples.
    if (now - last.at > SPEED_WINDOW_MS) return 0;
    return Math.max(0, ((last.bytes - first.bytes) * 1000) / (last.at - first.at));
  }
}

/** Bytes that have come and are to come, and how fast. */
class Amount {
  readonly #speed = new Speed();
  loaded = 0;
  total = 0;

  set(at: number, loaded: number, total: number): void {
    this.loaded = loaded;
    this.total = total;
    this.#speed.add(at, loaded);
  }

  get isWhole(): boolean {
    return this.loaded >= this.total;
  }

  /** "512 MB of 4.0 GB, 52 MB/s, 1 min 07 s left". */
  describe(now: number): string {
    const parts = [`${formatBytes(this.loaded)} of ${formatBytes(this.total)}`];
    const rate = this.#speed.bytesPerSecond(now);
    if (rate > 0)
      parts.push(`${formatBytes(rate)}/s`, `${formatDuration((this.total - this.loaded) / rate)} left`);
    return parts.join(', ');
  }
}

/** What the events of a load add up to. */
class Progress {
  /** Files under way, by name. */
  readonly active = new Map<string, Amount>();
  readonly all = new Amount();
  readonly #startedAt: number;
  /** Files of downloads that have come to an end, and their bytes. */
  readonly #done = { files: 0, bytes: 0 };

  constructor(private readonly now: () => number) {
    this.#startedAt = now();
  }

  /** Takes an event in; true when it ends its file. */
  take({ stage, file, loadedBytes, fileBytes, totalLoadedBytes, totalBytes }: ProgressEvent): boolean {
    const at = this.now();
    const amount = this.active.get(file) ?? new Amount();
    amount.set(at, loadedBytes, fileBytes);
    this.all.set(at, totalLoadedBytes, totalBytes);
    if (!amount.isWhole) this.active.set(file, amount);
    else this.active.delete(file);
    if (amount.isWhole && stage === 'download') {
      this.#done.files++;
      this.#done.bytes += fileBytes;
    }
    return amount.isWhole;
  }

  /** Whether there is more than the one file that is under way. */
  get isSeveral(): boolean {
    const [only] = this.active.values();
    return this.all.total > 0 && (this.active.size > 1 || this.all.total > (only?.total ?? this.all.total));
  }

  /** "12 files, 61.1 GB in 18 min 20 s"; undefined for a load that fetched no more than a file. */
  get summary(): string | undefined {
    const { files, bytes } = this.#done;
    if (files < 2 || this.active.size > 0 || bytes === 0) return undefined;
    const seconds = (this.now() - this.#startedAt) / 1000;
    return `${files} files, ${formatBytes(bytes)} in ${formatDuration(seconds)}`;
  }
}

class LineDisplay implements ProgressDisplay {
  readonly #progress: Progress;
  #lineAt: number;
  #summed = false;

  constructor(
    private readonly stream: ProgressStream,
    private readonly now: () => number,
  ) {
    this.#progress = new Progress(now);
    this.#lineAt = now();
  }

  onProgress(event: ProgressEvent): void {
    const done = this.#progress.take(event);
    const { stage, file, fileBytes } = event;
    if (stage === 'quantize' && event.loadedBytes === 0)
      this.stream.write(`${file}: ${formatBytes(fileBytes)} of rounded weights to be written\n`);
    if (done && stage !== 'load') this.stream.write(`${file}: ${formatBytes(fileBytes)}, done\n`);
    else if (this.now() - this.#lineAt >= PLAIN_LINE_MS) {
      this.#lineAt = this.now();
      const { isSeveral, all, active } = this.#progress;
      const shown = isSeveral ? all : (active.get(file) ?? all);
      this.stream.write(`${isSeveral ? 'all files' : file}: ${shown.describe(this.now())}\n`);
    }
  }

  write(text: string): void {
    this.stream.write(text);
  }

  finish(): void {
    const { summary } = this.#progress;
    if (summary !== undefined && !this.#summed) this.stream.write(`${summary}\n`);
    this.#summed = true;
  }
}

class BarDisplay implements ProgressDisplay {
  readonly #progress: Progress;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #height = 0;
  #summed = false;
  #next: NodeJS.Timeout | undefined;

  constructor(
    private readonly stream: ProgressStream,
    private readonly now: () => number,
  ) {
    this.#progress = new Progress(now);
  }

  onProgress(event: ProgressEvent): void {
    const done = this.#progress.take(event);
    if (done || this.now() - this.#drawnAt >= REDRAW_MS) this.#draw();
    // Where it is the last one for a while, it is shown all the same.
    else this.#drawIn(REDRAW_MS);
  }

  write(text: string): void {
    const isShown = this.#height > 0;
    this.stream.write(`${this.#erasure()}${text}`);
    if (isShown) this.#draw();
  }

  /** Leaves one line of all that was fetched. */
  finish(): void {
    const { summary } = this.#progress;
    this.#draw(this.#summed ? undefined : summary);
    this.#summed = true;
    this.#height = 0;
    clearTimeout(this.#next);
  }

  /** Redraws the bars in place; `last` takes the place of their sum and stays. */
  #draw(last?: string): void {
    const now = this.now();
    this.#drawnAt = now;
    const { active, all, isSeveral } = this.#progress;
    const bars = [...active].map(([file, amount]) => bar(file, amount, now));
    if (last !== undefined) bars.push(last);
    else if (isSeveral) bars.push(bar('all files', all, now));
    const text = `${this.#erasure()}${bars.map((line) => `${this.#clip(line)}\n`).join('')}`;
    if (text !== '') this.stream.write(text);
    this.#height = bars.length;
    clearTimeout(this.#next);
    if (active.size > 0) this.#drawIn(IDLE_REDRAW_MS);
  }

  #drawIn(ms: number): void {
    clearTimeout(this.#next);
    this.#next = setTimeout(() => this.#draw(), ms).unref();
  }

  /** What wipes the bars off. */
  #erasure(): string {
    const height = this.#height;
    this.#height = 0;
    return height > 0 ? `\x1b[${height}A\r\x1b[J` : '';
  }

  /** A wrapped line would upset the redrawing. */
  #clip(line: string): string {
    const width = Math.max(20, (this.stream.columns ?? 80) - 1);
    return line.length > width ? `${line.slice(0, width - 3)}...` : line;
  }
}

function bar(name: string, amount: Amount, now: number): string {
  const filled = Math.min(BAR_CELLS, Math.floor((BAR_CELLS * amount.loaded) / Math.max(1, amount.total)));
  return `${name} [${'#'.repeat(filled)}${'.'.repeat(BAR_CELLS - filled)}] ${amount.describe(now)}`;
}
