import type { GraphType } from '../dtype.ts';

/** Symbolic (`'batch'`) or fixed dimension. */
export type Dimension = string | number;

/** Numbers become int (if integral) or float; wrap in `float()` where an integral value is meant as float. */
export type Attribute = number | bigint | string | readonly number[] | FloatAttribute;
export interface FloatAttribute {
  readonly float: number;
}

export interface Node {
  readonly opType: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** An input or output of a graph. */
export interface TypedName {
  readonly name: string;
  readonly dtype: GraphType;
  readonly shape: readonly Dimension[];
}

/** A tensor written into the graph. */
export interface Initializer {
  readonly name: string;
  readonly dtype: GraphType;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** What a graph is made of, in execution order. */
export interface GraphParts {
  readonly inputs: readonly TypedName[];
  readonly initializers: readonly Initializer[];
  readonly nodes: readonly Node[];
  readonly outputs: readonly TypedName[];
}
