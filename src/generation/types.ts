/** What `generate` needs of a model: one call that opens a decoding over a batch of prompts. */
export interface Generator {
  /** Size of the vocabulary; logits rows have this length. */
  readonly vocabSize: number;
  /** Most tokens (prompt + new) a row may have. */
  readonly contextLength: number;
  openDecoding(request: DecodingRequest): Promise<Decoding>;
}

export interface DecodingRequest {
  /** Prompts, already padded on the left to one length. */
  inputIds: readonly (readonly number[])[];
  /** 1 for a token, 0 for padding; same shape as `inputIds`. */
  attentionMask: readonly (readonly number[])[];
  /** Upper bound of prompt + new tokens, for sizing the cache. */
  maxLength: number;
  /** Pins the experts backend for every step; undefined: each step reads the model's setting. */
  expertsImplementation?: unknown;
  /** Further inputs of the architecture, such as image features; passed through. */
  extra?: Readonly<Record<string, unknown>>;
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

/** What a pass says about the next token of every row. Valid until the next pass. */
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
  /** Feeds one token a row. */
  step(tokens: readonly number[], candidates: number, signal?: AbortSignal): Promise<Scores>;
  /** Calls of MoE layers so far by experts backend, counted by the kernels themselves. */
  readonly expertsCalls: Readonly<Record<string, number>>;
  dispose(): void;
}
