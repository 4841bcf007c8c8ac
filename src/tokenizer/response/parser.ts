import { type CallReader, openEnd, type ResponseDelta } from './events.ts';
import { JsonCallReader } from './json-call.ts';
import type { ResponseStyle } from './style.ts';
import { XmlCallReader } from './xml-call.ts';

/** A function call of an answer, as chat templates take it back. */
export interface ToolCall {
  type: 'function';
  function: {
    name: string;
    /** As the model wrote them, where that is no JSON object. */
    arguments: Record<string, unknown> | string;
  };
}

/** An answer in its parts: a message that can go into the conversation as it is. */
export interface ParsedResponse {
  role: 'assistant';
  content: string;
  /** Only where the model reasoned. */
  reasoning_content?: string;
  /** Only where it called functions. */
  tool_calls?: ToolCall[];
  [field: string]: unknown;
}

export interface ParseResponseOptions {
  /**
   * The text that the model went on from: whether it is in the midst of its reasoning stands at the end of it. Default: unknown; then
   * reasoning that ends without having begun was opened there.
   */
  prompt?: string | undefined;
  /** The functions that were offered. Default: unknown, any call counts. With an empty list none does. */
  tools?: readonly unknown[] | undefined;
}

/** How far an answer has come: more may follow, it is over, or a limit has cut it off. */
type Extent = 'open' | 'whole' | 'cut';

/** A function that was offered: its name, and the JSON schema of its arguments. */
interface Offered {
  readonly name: string;
  readonly parameters: unknown;
}

/**
 * Takes an answer apart while it comes: reasoning, text, and function calls. Nothing of it is lost: what only begins like a call is text, and a
 * call's arguments that are no JSON are handed on as they are. The pieces do not depend on where the text was cut when it came.
 *
 * The rules are those of Qwen's chat templates; transformers has them as data (`utils/chat_parsing`). Beyond these, a call ends reasoning that
 * was never closed.
 */
export class ResponseParser {
  readonly #style: ResponseStyle;
  readonly #offered: ReadonlyMap<string, Offered> | undefined;
  readonly #calls: { name: string; text: string }[] = [];
  readonly #reasoning = new Trimmed();
  readonly #content = new Trimmed();
  #state: 'reasoning' | 'content' | 'call' | 'ended' = 'content';
  /** What has not been looked at, or may be the beginning of a tag. */
  #buffer = '';
  #reader: CallReader | undefined;
  /** All of the call that is being read, in case it is none, and the state that it stands in. */
  #callText = '';
  #callIn: 'reasoning' | 'content' = 'content';
  /** Whether a call has ended reasoning, whose own end may still come. */
  #isUnclosed = false;
  #hasReasoned = false;
  readonly #isTurn: boolean;

  constructor(style: ResponseStyle, { prompt = '', tools }: ParseResponseOptions = {}) {
    this.#style = style;
    this.#offered = tools && new Map(tools.flatMap(offered).map((tool) => [tool.name, tool]));
    const tail = turnOf(prompt, style.anchors);
    this.#isTurn = tail !== undefined;
    // What the prompt has of the answer sets the state, and is no part of what the model says.
    this.push(tail ?? '');
    this.#reasoning.forget();
    this.#content.forget();
  }

  /** Whether the answer, as far as it has come, is in the midst of reasoning, before any, or beyond it. */
  get reasoning(): 'inside' | 'before' | 'none' {
    if (this.#state === 'reasoning') return 'inside';
    return this.#isTurn && this.#isFresh() && !this.#hasReasoned ? 'before' : 'none';
  }

  /** Takes the next piece of the answer, and returns what is certain now. */
  push(text: string): ResponseDelta[] {
    this.#buffer += text;
    return this.#process('open');
  }

  /**
   * Ends the answer, and returns what was held back.
   * @param isCut whether a limit has cut it off: then a tag, or the head of a call, that is not complete is no text, and a call is not completed
   */
  end(isCut = false): ResponseDelta[] {
    return this.#process(isCut ? 'cut' : 'whole');
  }

  /** The answer so far. */
  get message(): ParsedResponse {
    const reasoning = this.#reasoning.text;
    const calls = this.#calls.map(
      ({ name, text }): ToolCall => ({
        type: 'function',
        function: { name, arguments: argumentsOf(text) },
      }),
    );
    return {
      role: 'assistant',
      content: this.#content.text,
      ...(reasoning !== '' && { reasoning_content: reasoning }),
      ...(calls.length > 0 && { tool_calls: calls }),
    };
  }

  #process(extent: Extent): ResponseDelta[] {
    const deltas: ResponseDelta[] = [];
    for (let goesOn = true; goesOn; )
      goesOn = this.#state === 'call' ? this.#readCall(deltas, extent) : this.#readText(deltas, extent);
    if (extent === 'cut') this.#buffer = '';
    return deltas;
  }

  /** Whether nothing has been said yet, so that reasoning may begin. */
  #isFresh(): boolean {
    return !this.#content.hasBegun && !this.#reasoning.hasBegun && this.#calls.length === 0;
  }

  /** Hands on text up to the next tag. @returns whether there is more to look at */
  #readText(deltas: ResponseDelta[], extent: Extent): boolean {
    if (this.#state === 'ended') this.#buffer = '';
    if (this.#buffer === '') return false;
    const { tags, ends } = this.#marks();
    const marks = [...tags, ...ends];
    const found = first(this.#buffer, marks);
    const held = extent === 'whole' ? 0 : openEnd(this.#buffer, extent === 'cut' ? tags : marks);
    const end = found ? found.at : this.#buffer.length - held;
    this.#say(this.#buffer.slice(0, end), deltas);
    this.#buffer = this.#buffer.slice(end);
    // What was said before a tag may have made a word of it.
    const now = this.#marks();
    if (found && [...now.tags, ...now.ends].includes(found.mark)) {
      this.#buffer = this.#buffer.slice(found.mark.length);
      this.#meet(found.mark);
    }
    return found !== undefined;
  }

  /** What means something where the answer stands. */
  #marks(): { tags: string[]; ends: readonly string[] } {
    const { reasoning, calls, ends } = this.#style;
    const tags: string[] = [];
    if (calls && this.#offered?.size !== 0) tags.push(calls.open);
    if (!reasoning) return { tags, ends };
    // Reasoning stands at the beginning; later on its tags are words like others.
    const isFresh = this.#state === 'content' && this.#isFresh();
    if (isFresh) tags.push(reasoning.open);
    if (isFresh || this.#isUnclosed || this.#state === 'reasoning') tags.push(reasoning.close);
    return { tags, ends };
  }

  #meet(mark: string): void {
    const { reasoning, calls } = this.#style;
    if (mark === reasoning?.open) this.#state = 'reasoning';
    else if (mark === reasoning?.close) {
      this.#state = 'content';
      this.#isUnclosed = false;
      this.#hasReasoned = true;
    } else if (mark === calls?.open) {
      this.#callIn = this.#state as 'reasoning' | 'content';
      this.#callText = '';
      this.#reader = this.#newReader();
      this.#state = 'call';
    } else this.#state = 'ended';
  }

  #newReader(): CallReader {
    const { calls } = this.#style;
    const { close, style } = calls as NonNullable<typeof calls>;
    // In text any name counts: who offers functions can say that there is no such one. In reasoning a call is more often talked about than made.
    const isKnown = (name: string) => this.#callIn === 'content' || (this.#offered?.has(name) ?? true);
    const parametersOf = (name: string) => this.#offered?.get(name)?.parameters;
    return style === 'json'
      ? new JsonCallReader(close, isKnown)
      : new XmlCallReader(close, isKnown, parametersOf);
  }

  #readCall(deltas: ResponseDelta[], extent: Extent): boolean {
    const reader = this.#reader as CallReader;
    const before = reader.state;
    // Of a call that is cut off nothing is made up: neither an end, nor that its tag was a word.
    const used = reader.read(this.#buffer, extent === 'whole');
    this.#callText += this.#buffer.slice(0, used);
    this.#buffer = this.#buffer.slice(used);
    if (reader.state === 'none') {
      // The tag was a word, and so is what came after it.
      this.#state = this.#callIn;
      this.#say(this.#style.calls?.open ?? '', deltas);
      this.#buffer = this.#callText + this.#buffer;
      return true;
    }
    if (before === 'undecided' && reader.state !== 'undecided') {
      this.#calls.push({ name: reader.name, text: '' });
      deltas.push({ type: 'tool_call', index: this.#calls.length - 1, name: reader.name });
    }
    const pieces = reader.take();
    const call = this.#calls.at(-1);
    if (pieces !== '' && call) {
      call.text += pieces;
      deltas.push({ type: 'tool_call_arguments', index: this.#calls.length - 1, text: pieces });
    }
    // Behind a call there is no reasoning to go on with.
    if (reader.state === 'done') {
      this.#isUnclosed ||= this.#callIn === 'reasoning';
      this.#state = 'content';
    }
    return reader.state === 'done';
  }

  #say(text: string, deltas: ResponseDelta[]): void {
    const type = this.#state as 'reasoning' | 'content';
    const certain = (type === 'reasoning' ? this.#reasoning : this.#content).add(text);
    if (certain === '') return;
    const last = deltas.at(-1);
    if (last?.type === type) deltas[deltas.length - 1] = { type, text: last.text + certain };
    else deltas.push({ type, text: certain });
  }
}

/** Text without white space at its ends: what may turn out to be at the end is held back. */
class Trimmed {
  text = '';
  hasBegun = false;
  #held = '';

  /** @returns what is certain now */
  add(text: string): string {
    const all = this.hasBegun ? this.#held + text : text.trimStart();
    const certain = all.trimEnd();
    this.#held = all.slice(certain.length);
    if (certain === '') return '';
    this.hasBegun = true;
    this.text += certain;
    return certain;
  }

  /** Drops what has come, as it was somebody else's; what follows goes on from it. */
  forget(): void {
    this.text = '';
    this.#held = '';
  }
}

/** The model's turn, as far as the prompt has it; undefined where it has none. */
function turnOf(prompt: string, anchors: readonly string[]): string | undefined {
  const ends = anchors.map((anchor) => [prompt.lastIndexOf(anchor), anchor.length] as const);
  const [at, length] = ends.reduce((a, b) => (b[0] > a[0] ? b : a), [-1, 0]);
  return at === -1 ? undefined : prompt.slice(at + length);
}

function first(text: string, marks: readonly string[]): { at: number; mark: string } | undefined {
  let best: { at: number; mark: string } | undefined;
  for (const mark of marks) {
    const at = text.indexOf(mark);
    if (at !== -1 && (best === undefined || at < best.at)) best = { at, mark };
  }
  return best;
}

/** Tools as chat templates take them: a function's description, or one wrapped as `{ type, function }`. */
function offered(tool: unknown): Offered[] {
  const own = (tool as { function?: unknown } | null)?.function ?? tool;
  const { name, parameters } = (own ?? {}) as { name?: unknown; parameters?: unknown };
  return typeof name === 'string' ? [{ name, parameters }] : [];
}

function argumentsOf(text: string): Record<string, unknown> | string {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : text;
  } catch {
    return text;
  }
}

/** Whether reasoning ends in a text without having begun there. */
export function endsReasoning(text: string, { reasoning }: ResponseStyle): boolean {
  if (!reasoning) return false;
  const [open, close] = [text.indexOf(reasoning.open), text.indexOf(reasoning.close)];
  return close !== -1 && (open === -1 || close < open);
}
