/** What `generate` needs of a model: one call that opens a decoding over a batch of prompts. */
export interface Generator {
  /** Size of the vocabulary; logits rows have this length. */
  readonly vocabSize: number;
  /** Most tokens (prompt + new) a row may have. */
  readonly contextLength: number;
  openDecoding(request: DecodingRequest): Promise<Decoding>;
  /** Tells the user, once, what is worth knowing. */
  warnOnce?(message: string): void;
}

export interface DecodingRequest {
  /** Checked, one for each row. */
  prompts: readonly PromptRow[];
  /** Most tokens that will follow a prompt. */
  newTokens: number;
  /** Most rows that each prompt will have at a time; default 1. */
  rows?: number;
  /** Pins the experts backend for every step; undefined: each step reads the model's setting. */
  expertsImplementation?: unknown;
  /** Keep which experts the tokens go to. */
  returnRoutedExperts?: boolean;
  /** What the only prompt goes on from, and where what is computed is kept. */
  cache?: unknown;
}

/** Which experts the tokens of a row went to. */
export interface RowRouting {
  /** Indices of the layers that route. */
  readonly layers: readonly number[];
  /** Experts a token. */
  readonly perToken: number;
  /**
   * Of each token that was fed, which are all but the last one, best first, [tokens, layers, perToken]. `NOT_ROUTED` in the last layer for
   * tokens of the prompt but its last one, because that layer computes only tokens whose scores are needed.
   */
  readonly experts: Uint16Array;
}

/** A prompt without padding. A model may have put more into it, such as the features of its pictures. */
export interface PromptRow {
  readonly ids: readonly number[];
}

/** The highest logits of every row, best first, equal ones by ascending id; NaN counts as −∞. */
export interface TopLogits {
  /** Of each row. */
  readonly count: number;
  /** [rows, count] */
  readonly values: Float32Array;
  /** [rows, count] */
  readonly ids: Int32Array;
}

/** What a pass says about the next token of every row it was about. Valid until the next pass. */
export interface Scores {
  /** As many as were asked for. */
  readonly top: TopLogits;
  /** Fetches all logits, fp32 [rows, vocab], from where the model computed them. */
  logits(): Promise<Float32Array>;
}

/** One batch being decoded. Owns its KV cache; several decodings of one model may run at once. */
export interface Decoding {
  /**
   * Runs the prompts.
   * @param candidates how many of the highest logits of each row's last position to fetch, 0 to vocab
   */
  prefill(candidates: number, signal?: AbortSignal): Promise<Scores>;
  /**
   * Feeds some rows the token that was chosen, and guesses at what follows it. The scores after each of them come as those of a row, so
   * that a row has as many as it is fed tokens.
   * @param rows ascending; a row that is left out has ended, and may not come back
   * @param tokens of each of `rows`
   */
  step(
    rows: readonly number[],
    tokens: readonly (readonly number[])[],
    candidates: number,
    signal?: AbortSignal,
  ): Promise<Scores>;
  /** Drops the last `count` of the guesses that a row was fed last; the others are what was chosen. */
  takeBack(row: number, count: number): void;
  /** Tokens of all prompts that did not run, because they had been computed before. */
  readonly cachedTokens: number;
  /** Calls of MoE layers so far by experts backend, counted as they run. */
  readonly expertsCalls: Readonly<Record<string, number>>;
  /** Which experts the first tokens of a row went to, where that was asked for. */
  routing?(row: number, tokens: number): RowRouting | undefined;
  /**
   * Begins anew with rows that go on from where others are: row i from where row `parents[i]` is, as often as it is named. Rows that
   * nobody names have ended. The scores of the last pass stay as they were, by the old rows.
   */
  fork(parents: readonly number[]): void;
  /** The generation has come to its end, and what it has computed may be kept. */
  finish(): void;
  dispose(): void;
}
