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

/** One batch being decoded. Owns its KV cache; several decodings of one model may run at once. */
export interface Decoding {
  /** Runs the prompts. Resolves to fp32 logits of each row's last position, [rows, vocab]. */
  prefill(signal?: AbortSignal): Promise<Float32Array>;
  /** Feeds one token a row. Resolves to fp32 logits [rows, vocab]; the array is only valid until the next step. */
  step(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array>;
  /** Calls of MoE layers so far by experts backend, counted by the kernels themselves. */
  readonly expertsCalls: Readonly<Record<string, number>>;
  dispose(): void;
}
