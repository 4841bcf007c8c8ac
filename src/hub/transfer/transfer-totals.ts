import type { ProgressEvent } from '../types.ts';

const EVENT_INTERVAL_MS = 50;

/** Adds up the files of one load for its `onProgress`. The callback hears of each file at most every 50 ms, and at its end. */
export class TransferTotals {
  #totalBytes = 0;
  #loadedBytes = 0;

  readonly #onProgress: ((event: ProgressEvent) => void) | undefined;

  constructor(onProgress: ((event: ProgressEvent) => void) | undefined) {
    this.#onProgress = onProgress;
  }

  /** Counts a file in. The function returned takes its bytes on disk so far. */
  add(file: string, fileBytes: number): (loadedBytes: number) => void {
    this.#totalBytes += fileBytes;
    let before = 0;
    let toldAt = 0;
    return (loadedBytes) => {
      this.#loadedBytes += loadedBytes - before;
      before = loadedBytes;
      const now = performance.now();
      if (loadedBytes < fileBytes && now - toldAt < EVENT_INTERVAL_MS) return;
      toldAt = now;
      this.#onProgress?.({
        stage: 'download',
        file,
        loadedBytes,
        fileBytes,
        totalLoadedBytes: this.#loadedBytes,
        totalBytes: this.#totalBytes,
      });
    };
  }
}
