import { createInterface, type Interface } from 'node:readline';
import type { Writable } from 'node:stream';
import type { Io } from '../io.ts';

/** Ctrl-C at the prompt: what has been typed so far is given up. */
export const GIVEN_UP = Symbol('what was typed is given up');

export interface LinesOptions {
  /** Where a terminal shows the prompt and what is typed. Default: stdin is no terminal. */
  readonly terminal?: Writable;
  /** What was typed before, the latest first. */
  readonly history?: readonly string[];
  readonly complete?: (line: string) => string[];
  readonly stop: AbortSignal;
}

const PASTE_MARKS = { on: '\x1b[?2004h', off: '\x1b[?2004l' };
const HISTORY_SIZE = 1000;

/**
 * Lines as they are typed, or piped in. A terminal belongs to the reader only while it reads: in between, Ctrl-C is a signal again, and what is
 * typed ahead waits. What is pasted is one line, however many it has.
 */
export class Lines {
  /** What was typed, the latest first. */
  history: readonly string[];
  readonly #input: Io['stdin'] & { setRawMode?: (isRaw: boolean) => unknown };
  readonly #terminal: Writable | undefined;
  readonly #interface: Interface;
  readonly #ready: string[] = [];
  #pasted: string[] = [];
  #isPasting = false;
  #isOver = false;
  #wake: (what?: typeof GIVEN_UP) => void = () => {};

  constructor(input: Io['stdin'], { terminal, history = [], complete = () => [], stop }: LinesOptions) {
    this.#input = input;
    this.#terminal = terminal;
    this.history = history;
    this.#interface = createInterface({
      input,
      ...(terminal && {
        output: terminal,
        history: [...history],
        historySize: HISTORY_SIZE,
        removeHistoryDuplicates: true,
        completer: (line: string) => [complete(line), line],
      }),
      terminal: terminal !== undefined,
      crlfDelay: Number.POSITIVE_INFINITY,
      signal: stop,
    });
    this.#interface.pause();
    this.#interface.on('line', (line) => this.#take(line));
    this.#interface.on('history', (lines) => {
      this.history = [...lines];
    });
    this.#interface.on('SIGINT', () => this.#giveUp());
    this.#interface.on('close', () => {
      this.#isOver = true;
      this.#terminal?.write(PASTE_MARKS.off);
      this.#wake();
    });
    input.on('keypress', this.#onKey);
  }

  /** The next line, or undefined where there is none any more. */
  async next(prompt: string): Promise<string | undefined | typeof GIVEN_UP> {
    if (this.#ready.length > 0) return this.#ready.shift();
    if (this.#isOver) return undefined;
    const woken = new Promise<typeof GIVEN_UP | undefined>((resolve) => {
      this.#wake = resolve;
    });
    this.#interface.resume();
    if (this.#terminal) {
      this.#input.setRawMode?.(true);
      this.#terminal.write(PASTE_MARKS.on);
      this.#interface.setPrompt(prompt);
      this.#interface.prompt();
    }
    const what = await woken;
    this.#wake = () => {};
    if (!this.#isOver) this.#interface.pause();
    if (this.#terminal) {
      this.#terminal.write(PASTE_MARKS.off);
      this.#input.setRawMode?.(false);
    }
    return what ?? this.#ready.shift();
  }

  close(): void {
    this.#input.off('keypress', this.#onKey);
    this.#interface.close();
  }

  #take(line: string): void {
    this.#pasted.push(line);
    if (this.#isPasting) return;
    this.#ready.push(this.#pasted.join('\n'));
    this.#pasted = [];
    this.#wake();
  }

  #giveUp(): void {
    this.#pasted = [];
    // The rest of the line, then all of it.
    this.#interface.write(null, { ctrl: true, name: 'e' });
    this.#interface.write(null, { ctrl: true, name: 'u' });
    this.#terminal?.write('^C\n');
    this.#wake(GIVEN_UP);
  }

  readonly #onKey = (_: string | undefined, key: { name?: string } | undefined): void => {
    if (key?.name === 'paste-start') this.#isPasting = true;
    if (key?.name === 'paste-end') this.#isPasting = false;
  };
}

const FENCE = '"""';

/**
 * A message of one or several lines: `"""` begins one that ends with `"""`, and a line that ends with `\` goes on with the next.
 * @returns undefined where there is none any more; GIVEN_UP where the user has given it up
 */
export async function readMessage(lines: Lines): Promise<string | undefined | typeof GIVEN_UP> {
  const first = await lines.next('> ');
  if (typeof first !== 'string') return first;
  const isFenced = first.startsWith(FENCE);
  const parts: string[] = [];
  let line = isFenced ? first.slice(FENCE.length) : first;
  for (;;) {
    const end = isFenced ? line.trimEnd().endsWith(FENCE) : !line.endsWith('\\');
    if (end) {
      parts.push(isFenced ? line.trimEnd().slice(0, -FENCE.length) : line);
      break;
    }
    parts.push(isFenced ? line : line.slice(0, -1));
    const next = await lines.next('… ');
    if (next === GIVEN_UP) return GIVEN_UP;
    // What is cut off at the end of the input is all there is.
    if (next === undefined) break;
    line = next;
  }
  return parts.join('\n').trim();
}
