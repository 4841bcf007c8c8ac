/** A piece of an answer as it becomes certain. */
export type ResponseDelta =
  | { readonly type: 'reasoning'; readonly text: string }
  | { readonly type: 'content'; readonly text: string }
  /** A call begins. */
  | { readonly type: 'tool_call'; readonly index: number; readonly name: string }
  /** The next piece of its arguments, which together are JSON, or what the model wrote instead. */
  | { readonly type: 'tool_call_arguments'; readonly index: number; readonly text: string };

/** Reads what stands between the tags of a call. */
export interface CallReader {
  /**
   * Takes text from behind the opening tag on, or from where it stopped before.
   * @param isEnd whether no more comes
   * @returns how much of the text was used; what was not comes again, with more behind it
   */
  read(text: string, isEnd: boolean): number;
  /** `undecided` until it is known whether this is a call; `done` behind the closing tag. */
  readonly state: 'undecided' | 'call' | 'none' | 'done';
  readonly name: string;
  /** Pieces of arguments since the last time. */
  take(): string;
}

/** How long the longest end of `text` is that may be the beginning of one of `marks`. */
export function openEnd(text: string, marks: readonly string[]): number {
  const most = Math.min(text.length, Math.max(0, ...marks.map((mark) => mark.length - 1)));
  for (let length = most; length > 0; length--) {
    const end = text.slice(text.length - length);
    if (marks.some((mark) => mark.length > length && mark.startsWith(end))) return length;
  }
  return 0;
}
