/** What a layer keeps of a sequence between passes; said by a model, kept by the engine. */
export type CacheSpec = KeysValuesSpec | RecurrentSpec;

/** Keys and values of every position, each [kvHeads, positions, headDim]. */
export interface KeysValuesSpec {
  readonly kind: 'keys_values';
  readonly kvHeads: number;
  readonly headDim: number;
  /** Positions that are looked back on, the newest included; all of them without it. */
  readonly window?: number;
  /** Width of a third part, [1, positions, indexDim]: by what a sparse index chooses positions. */
  readonly indexDim?: number;
}

/** States of a fixed shape, whatever the length, in fp32. */
export interface RecurrentSpec {
  readonly kind: 'recurrent';
  /** By name, each its shape. */
  readonly states: Readonly<Record<string, readonly number[]>>;
}
