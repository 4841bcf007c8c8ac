import type { DType } from '../dtype.ts';
import type { ExpertsBackend } from '../experts/interface.ts';
import {
  type Attribute,
  type Graph,
  type OpOptions,
  SWITCHYARD_DOMAIN,
  type Value,
  type VectorChange,
} from '../graph/graph.ts';
import { computing, PRECISION } from '../graph/precision.ts';

/** Where and in which precision a graph computes. */
export interface Target {
  readonly device: 'cpu' | 'cuda';
  readonly dtype: DType;
  /** Whether activations that meet codes of integers may be rounded to int8. Default false. */
  readonly int8Activations?: boolean | undefined;
}

/** How one decoder graph of a model differs from another. */
export interface Variant extends Target {
  /** Element type of keys and values in the cache. */
  readonly cacheDtype: DType;
  /** Backend of the routed experts. */
  readonly experts: ExpertsBackend;
  /** What leaves the graph: logits of chosen positions, or the last hidden state of all. */
  readonly head: 'logits' | 'last_hidden_state';
  /** Also gives hidden states and routing of every layer. */
  readonly intermediates: boolean;
  /** Also says which experts tokens go to, as intermediates do. Default false. */
  readonly routing?: boolean | undefined;
  /** Takes features of pictures beside the token ids. */
  readonly visual: boolean;
}

/**
 * A place in a graph under construction: what is added here is named after the tensor prefix, and weights are asked for below
 * it. Layers are functions of a scope, so that they need not carry graph, prefix and variant one by one.
 */
export class Scope<T extends Target = Target> {
  readonly graph: Graph;
  readonly variant: T;
  readonly #prefix: string;

  constructor(graph: Graph, variant: T, prefix = '') {
    this.graph = graph;
    this.variant = variant;
    this.#prefix = prefix;
  }

  /** The scope of a part, such as `self_attn`. */
  at(part: string): Scope<T> {
    return new Scope(this.graph, this.variant, this.name(part));
  }

  /** Full name of a tensor, or prefix of a part. */
  name(part: string): string {
    return this.#prefix === '' ? part : `${this.#prefix}.${part}`;
  }

  /** Full name of this place. */
  get prefix(): string {
    return this.#prefix;
  }

  /** Attribute `precision` of our own ops. */
  get precision(): number {
    return PRECISION[this.variant.dtype];
  }

  /** Attributes of our own ops that multiply weights. */
  get computing(): Record<string, number> {
    return computing(this.variant.dtype, this.variant.int8Activations);
  }

  /** Handle of a weight that runs read from end to end; asks for it by shape. */
  weight(name: string, shape: readonly number[]): number {
    return this.graph.weight(this.name(name), shape);
  }

  /** Handle of a weight of which runs read only some rows. */
  table(name: string, shape: readonly number[]): number {
    return this.graph.table(this.name(name), shape);
  }

  /** As `table`, for one that is read in its file; see `Graph.rowsInFile`. */
  rowsInFile(name: string, shape: readonly number[]): number {
    return this.graph.rowsInFile(this.name(name), shape);
  }

  /** A small weight as a constant, widened to fp32; see `Graph.vector`. */
  vector(name: string, shape: readonly number[], change?: VectorChange): Value {
    return this.graph.vector(this.name(name), shape, change);
  }

  /** A node of one output; see `Graph.op`. */
  op(
    opType: string,
    inputs: readonly (Value | undefined)[],
    attributes: Record<string, Attribute> = {},
    options: OpOptions = {},
  ): Value {
    return this.ops(opType, inputs, attributes, options)[0] as Value;
  }

  /** A node with all of its outputs; see `Graph.ops`. */
  ops(
    opType: string,
    inputs: readonly (Value | undefined)[],
    attributes: Record<string, Attribute>,
    options: OpOptions,
  ): Value[] {
    return this.named((graph) => graph.ops(opType, inputs, attributes, options));
  }

  /** One of Switchyard's own ops. */
  ownOps(
    opType: string,
    inputs: readonly (Value | undefined)[],
    attributes: Record<string, Attribute>,
    outputs = 1,
  ): Value[] {
    return this.ops(opType, inputs, attributes, { domain: SWITCHYARD_DOMAIN, outputs });
  }

  /** Adds to the graph what `build` adds, named after this place. */
  named<R>(build: (graph: Graph) => R): R {
    const { graph } = this;
    return this.#prefix === '' ? build(graph) : graph.scope(this.#prefix, () => build(graph));
  }
}
