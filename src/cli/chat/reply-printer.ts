import type { Writable } from 'node:stream';
import type { ResponseDelta } from '../../index.ts';

/** What becomes of reasoning: it is shown, dimmed where the terminal can; counted; or left out. */
export const REASONING_STYLES = ['show', 'fold', 'hide'] as const;
export type ReasoningStyle = (typeof REASONING_STYLES)[number];

const DIM = { on: '\x1b[2m', off: '\x1b[22m' };
const PLAIN = { on: '<think>\n', off: '\n</think>' };
/** Characters that would steer a terminal, but for tabs and ends of lines. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const STEERING = /[\0-\x08\x0b-\x1f\x7f-\x9f]/g;

/** Writes an answer as it comes: reasoning, text, and calls each in lines of their own. */
export class ReplyPrinter {
  readonly #out: Writable;
  readonly #isTerminal: boolean;
  readonly #reasoning: ReasoningStyle;
  readonly #marks: { readonly on: string; readonly off: string };
  readonly #now: () => number;
  #kind: 'reasoning' | 'content' | 'call' | undefined;
  #isLineEmpty = true;
  #since = 0;

  constructor(
    out: Writable,
    { isTerminal, reasoning }: { isTerminal: boolean; reasoning: ReasoningStyle },
    now: () => number = () => performance.now(),
  ) {
    this.#out = out;
    this.#isTerminal = isTerminal;
    this.#reasoning = reasoning;
    this.#marks = isTerminal && process.env.TERM !== 'dumb' ? DIM : PLAIN;
    this.#now = now;
  }

  print(delta: ResponseDelta): void {
    switch (delta.type) {
      case 'reasoning':
        this.#enter('reasoning');
        if (this.#reasoning === 'show') this.#write(delta.text);
        break;
      case 'content':
        this.#enter('content');
        this.#write(delta.text);
        break;
      case 'tool_call':
        this.#leave();
        this.#enter('call');
        this.#write(`[calls ${delta.name} `);
        break;
      case 'tool_call_arguments':
        this.#write(delta.text);
    }
  }

  /** Ends the answer, also one that has been cut off, with its line. */
  end(): void {
    this.#leave();
    this.#newLine();
  }

  #enter(kind: 'reasoning' | 'content' | 'call'): void {
    if (this.#kind === kind) return;
    this.#leave();
    this.#newLine();
    this.#kind = kind;
    if (kind !== 'reasoning') return;
    this.#since = this.#now();
    if (this.#reasoning === 'show') this.#out.write(this.#marks.on);
    if (this.#reasoning === 'fold' && this.#isTerminal) this.#out.write('thinking …');
  }

  #leave(): void {
    const kind = this.#kind;
    this.#kind = undefined;
    if (kind === 'call') this.#write(']');
    if (kind !== 'reasoning') return;
    if (this.#reasoning === 'show') this.#out.write(`${this.#marks.off}\n`);
    if (this.#reasoning === 'fold') {
      const seconds = ((this.#now() - this.#since) / 1000).toFixed(1);
      this.#out.write(`${this.#isTerminal ? '\r\x1b[K' : ''}(thought for ${seconds} s)\n`);
    }
    this.#isLineEmpty = true;
  }

  #newLine(): void {
    if (!this.#isLineEmpty) this.#out.write('\n');
    this.#isLineEmpty = true;
  }

  #write(text: string): void {
    const shown = this.#isTerminal ? text.replace(STEERING, '') : text;
    if (shown === '') return;
    this.#out.write(shown);
    this.#isLineEmpty = shown.endsWith('\n');
  }
}
