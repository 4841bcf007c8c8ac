/** What is said of where routers send tokens. */

/** Stands for the experts of a token in a layer that did not compute it: in the last one, only tokens whose scores are wanted go on. */
export const NOT_ROUTED = 0xffff;

/** Where one pass sent some tokens of one request. */
export interface RoutingRecord {
  /** Number of the pass; records of the same one were computed together. */
  readonly pass: number;
  /** Number of the row of a `generate` or `forward`, in the order in which they were first computed. */
  readonly request: number;
  /** `decode` for a token after the prompt. */
  readonly phase: 'prefill' | 'decode';
  /** Place of the first token in its row, without padding. */
  readonly start: number;
  readonly tokens: number;
  /** The experts of each token in each layer that routes, best first, [tokens, layers, k]; {@link NOT_ROUTED} where it was not computed. */
  readonly experts: Uint16Array;
  /** Their weights, fp32 of the same shape, for who asks for them; 0 where there is none. */
  readonly weights?: Float32Array;
}

export type RoutingListener = (record: RoutingRecord) => void;

/** The model that records are of. */
export interface RoutingHeader {
  /** Repo id or folder. */
  readonly model: string;
  readonly modelType: string;
  /** Precision of the computation. */
  readonly dtype: string;
  /** Experts backend when recording began. */
  readonly backend: string;
  /** Indices of the layers that route, ascending. */
  readonly layers: readonly number[];
  /** Experts in each. */
  readonly experts: number;
  /** Experts a token is sent to. */
  readonly perToken: number;
  /** Bytes of one expert of one layer as stored, on average. */
  readonly expertBytes: number;
}
