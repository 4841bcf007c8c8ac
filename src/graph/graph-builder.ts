import type { Attribute } from './parts.ts';

/** A tensor somewhere in the graph, by its name. */
export interface Value {
  readonly name: string;
}

export interface OpOptions {
  /** Default: the ONNX domain. */
  domain?: string;
  /** Number of outputs; default 1. A list marks unused ones with false. */
  outputs?: number | readonly boolean[];
}

/** A graph under construction, as an experts backend sees it: nodes are added in execution order, each returning its output value. */
export interface GraphBuilder {
  /** Prefixes the names of everything added inside `build` with `name/`. */
  scope<T>(name: string, build: () => T): T;
  /** Adds a node and returns its only (or first) output. */
  op(
    opType: string,
    inputs: readonly (Value | undefined)[],
    attributes?: Record<string, Attribute>,
    options?: OpOptions,
  ): Value;
  /** Adds a node and returns all of its outputs, in order; unused ones have an empty name. */
  ops(
    opType: string,
    inputs: readonly (Value | undefined)[],
    attributes?: Record<string, Attribute>,
    options?: OpOptions,
  ): Value[];
  /** Adds one of Switchyard's own ops, which find weights by handle in the session's store. */
  ownOps(
    opType: string,
    inputs: readonly (Value | undefined)[],
    attributes: Record<string, Attribute>,
    outputs?: number,
  ): Value[];
  /** An int64 tensor written into the graph; without `shape` a vector. */
  int64(values: readonly number[], shape?: readonly number[]): Value;
  /** An int32 tensor written into the graph; without `shape` a vector. */
  int32(values: readonly number[], shape?: readonly number[]): Value;
  /** A float32 tensor written into the graph; without `shape` a vector. */
  float32(values: ArrayLike<number>, shape?: readonly number[]): Value;
  /** A stored tensor's handle, for an attribute of our own ops. `shape` is checked against the checkpoint. */
  weight(name: string, shape: readonly number[]): number;
  /** A small stored tensor (a norm's weight), widened to fp32 and written into the graph. */
  vector(name: string, shape: readonly number[]): Value;
  /**
   * A stored tensor as an fp32 value for standard ONNX ops: a graph input bound to the tensor's bytes in place, widened by
   * `Cast` on each run. A quantized matrix is dequantized instead, to 4 bytes a weight; of a quantized stack of matrices there is no value.
   */
  value(name: string, shape: readonly number[]): Value;
}
