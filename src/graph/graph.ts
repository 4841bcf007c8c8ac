import { dtypeOf, ELEMENT_TYPES, type GraphType } from '../dtype.ts';
import { SwitchyardError } from '../errors.ts';
import type { GraphBuilder, OpOptions, Value } from './graph-builder.ts';
import { listGraph } from './listing.ts';
import type {
  Attribute,
  Dimension,
  FloatAttribute,
  GraphParts,
  Initializer,
  Node,
  TypedName,
} from './parts.ts';
import { serializeGraph } from './serialize.ts';
import type { WeightSource } from './weight-source.ts';

/** Domain of Switchyard's own ops; `kernels/ops` registers the same string. */
export const SWITCHYARD_DOMAIN = 'switchyard';
/** Domain of ONNX Runtime's own ops. */
export const MICROSOFT_DOMAIN = 'com.microsoft';

const OPSETS = { '': 23, [MICROSOFT_DOMAIN]: 1, [SWITCHYARD_DOMAIN]: 1 };

export type { OpOptions, Value } from './graph-builder.ts';
export type { Attribute, Dimension } from './parts.ts';

/** A float attribute, also for integral values such as 1. */
export const float = (value: number): FloatAttribute => ({ float: value });

/** How a stored tensor differs from what is written into the graph. */
export interface VectorChange {
  values?(stored: Float32Array): Float32Array;
  readonly shape?: readonly number[];
}

/** A finished graph, and what a session has to know of its weights. */
export interface SerializedGraph {
  /** `onnx.ModelProto` bytes. */
  readonly model: Uint8Array;
  /** Graph inputs that stand for a stored tensor's bytes: input name → tensor name. */
  readonly boundInputs: Readonly<Record<string, string>>;
}

/**
 * An ONNX graph under construction. Nodes are added in execution order, each returning its output value, so that code
 * building a graph reads like the equations it stands for.
 */
export class Graph implements GraphBuilder {
  /** Where the weights are. */
  readonly weights: WeightSource;

  /** Names of stored tensors by how they were asked for; each in one of them, as there are tens of thousands. */
  readonly #whole = new Set<string>();
  readonly #tables = new Set<string>();
  readonly #foreign = new Set<string>();
  readonly #boundInputs: Record<string, string> = {};
  readonly #nodes: Node[] = [];
  readonly #inputs: TypedName[] = [];
  readonly #outputs: TypedName[] = [];
  readonly #initializers = new Map<string, Initializer>();
  readonly #widened = new Map<string, Value>();
  #scope = '';
  readonly #taken = new Map<string, number>();

  constructor(weights: WeightSource) {
    this.weights = weights;
  }

  /** Prefixes the names of everything added inside `build` with `name/`. */
  scope<T>(name: string, build: () => T): T {
    const outer = this.#scope;
    this.#scope = `${outer}${name}/`;
    try {
      return build();
    } finally {
      this.#scope = outer;
    }
  }

  input(name: string, dtype: GraphType, shape: readonly Dimension[]): Value {
    this.#inputs.push({ name, dtype, shape });
    return { name };
  }

  /** Makes `value` a graph output under `name`. */
  output(value: Value, name: string, dtype: GraphType, shape: readonly Dimension[]): void {
    if (value.name !== name) this.#add('Identity', '', [value.name], [name], {});
    this.#outputs.push({ name, dtype, shape });
  }

  /** Adds a node and returns its only (or first) output. */
  op(
    opType: string,
    inputs: readonly (Value | undefined)[],
    attributes: Record<string, Attribute> = {},
    options: OpOptions = {},
  ): Value {
    return this.ops(opType, inputs, attributes, options)[0] as Value;
  }

  /** Adds a node and returns all of its outputs, in order; unused ones have an empty name. */
  ops(
    opType: string,
    inputs: readonly (Value | undefined)[],
    attributes: Record<string, Attribute> = {},
    options: OpOptions = {},
  ): Value[] {
    const wanted = options.outputs ?? 1;
    const used = typeof wanted === 'number' ? Array.from({ length: wanted }, () => true) : wanted;
    const base = this.#name(opType);
    const outputs = used.map((isUsed, i) => (isUsed ? (i === 0 ? base : `${base}.${i}`) : ''));
    const names = inputs.map((value) => value?.name ?? '');
    this.#add(opType, options.domain ?? '', names, outputs, attributes);
    return outputs.map((name) => ({ name }));
  }

  /** Adds one of Switchyard's own ops, which find weights by handle in the session's store. */
  ownOps(
    opType: string,
    inputs: readonly (Value | undefined)[],
    attributes: Record<string, Attribute>,
    outputs = 1,
  ): Value[] {
    return this.ops(opType, inputs, attributes, { domain: SWITCHYARD_DOMAIN, outputs });
  }

  /** An int64 tensor written into the graph; without `shape` a vector. */
  int64(values: readonly (number | bigint)[], shape: readonly number[] = [values.length]): Value {
    const data = BigInt64Array.from(values, BigInt);
    return this.#constant('int64', shape, data, `${values.join(',')}:${shape.join('x')}`);
  }

  /** An int32 tensor written into the graph; without `shape` a vector. */
  int32(values: readonly number[], shape: readonly number[] = [values.length]): Value {
    return this.#constant('int32', shape, Int32Array.from(values), `${values.join(',')}:${shape.join('x')}`);
  }

  /** A float32 tensor written into the graph; without `shape` a vector. */
  float32(values: ArrayLike<number>, shape: readonly number[] = [values.length]): Value {
    return this.#constant('float32', shape, Float32Array.from(values));
  }

  /** A stored tensor's handle, for an attribute of our own ops. `shape` is checked against the checkpoint. */
  weight(name: string, shape: readonly number[]): number {
    this.#whole.add(name);
    return this.rowsInFile(name, shape);
  }

  /** As `weight`, for a tensor of which a run reads only some rows. */
  table(name: string, shape: readonly number[]): number {
    this.#tables.add(name);
    return this.rowsInFile(name, shape);
  }

  /** As `table`, for one that is read in its file, wherever the session computes. */
  rowsInFile(name: string, shape: readonly number[]): number {
    return this.weights.request(name, shape) ? this.weights.handle(name) : -1;
  }

  /** As `weight`, for a tensor of which others than our own ops make use, in whatever way. */
  foreign(name: string, shape: readonly number[]): void {
    this.#foreign.add(name);
    this.weights.request(name, shape);
  }

  /**
   * A small stored tensor (a norm's weight), widened to fp32 and written into the graph.
   * @param change what stands there instead, and its shape; for one tensor always the same
   */
  vector(name: string, shape: readonly number[], change: VectorChange = {}): Value {
    const cached = this.#widened.get(name);
    if (cached) return cached;
    // A graph that lacks a tensor is built to find out what it lacks, and never runs.
    const stored = this.weights.request(name, shape) ? this.weights.readFloat32(name) : new Float32Array(0);
    const data = change.values?.(stored) ?? stored;
    const value = this.#constant('float32', change.shape ?? shape, data, undefined, name);
    this.#widened.set(name, value);
    return value;
  }

  /**
   * A stored tensor as an fp32 value for standard ONNX ops: a graph input bound to the tensor's bytes in place, widened by
   * `Cast` on each run. A quantized matrix is dequantized instead.
   */
  value(name: string, shape: readonly number[]): Value {
    const cached = this.#widened.get(name);
    if (cached) return cached;
    const info = this.weights.request(name, shape);
    if (info?.quantized) {
      const dequantized = this.#dequantized(name, shape);
      this.#widened.set(name, dequantized);
      return dequantized;
    }
    const dtype = info ? dtypeOf(info.dtype) : 'float32';
    if (!dtype)
      throw new SwitchyardError(
        `tensor ${name} has dtype ${info?.dtype}; a graph value needs F32, F16 or BF16`,
      );
    const inputName = `weight:${name}`;
    this.#boundInputs[inputName] = name;
    const bound = this.input(inputName, dtype, shape);
    const value = dtype === 'float32' ? bound : this.op('Cast', [bound], { to: ELEMENT_TYPES.float32.onnx });
    this.#widened.set(name, value);
    return value;
  }

  /** All rows of a quantized matrix, looked up as in a table. */
  #dequantized(name: string, shape: readonly number[]): Value {
    const [rows = 0, ...columns] = shape;
    if (columns.length !== 1)
      throw new SwitchyardError(
        `${name} is a quantized stack [${shape}], of which a graph can have no value`,
      );
    const all = this.int64(Array.from({ length: rows }, (_, row) => row));
    return this.ownOps('Embedding', [all], { weight: this.weights.handle(name) })[0] as Value;
  }

  /** Stored tensors that every run reads from end to end, or may. */
  get streamed(): ReadonlySet<string> {
    return new Set([...this.#whole, ...this.#foreign]);
  }

  /** Stored tensors that a device keeps whole for our own ops. */
  get resident(): ReadonlySet<string> {
    return new Set([...this.#whole, ...this.#tables]);
  }

  /** The graph as text, for people and for tests: see `listGraph`. */
  listing(): string {
    return listGraph(this.#parts());
  }

  /** The graph as a session opens it. */
  serialize(): SerializedGraph {
    return {
      model: serializeGraph(this.#parts(), OPSETS),
      boundInputs: { ...this.#boundInputs },
    };
  }

  #parts(): GraphParts {
    return {
      inputs: this.#inputs,
      initializers: [...this.#initializers.values()],
      nodes: this.#nodes,
      outputs: this.#outputs,
    };
  }

  /** `kind` in the present scope, numbered where there is one already. */
  #name(kind: string): string {
    const base = `${this.#scope}${kind}`;
    const count = this.#taken.get(base) ?? 0;
    this.#taken.set(base, count + 1);
    return count === 0 ? base : `${base}_${count}`;
  }

  #add(
    opType: string,
    domain: string,
    inputs: string[],
    outputs: string[],
    attributes: Record<string, Attribute>,
  ): void {
    this.#nodes.push({ opType, domain, inputs, outputs, attributes });
  }

  /** Adds an initializer; equal constants (same dtype and `key`) are written once. */
  #constant(
    dtype: GraphType,
    shape: readonly number[],
    values: Float32Array | BigInt64Array | Int32Array,
    key?: string,
    explicitName?: string,
  ): Value {
    const name = explicitName ?? (key === undefined ? this.#name('constant') : `${dtype}:${key}`);
    if (!this.#initializers.has(name)) {
      const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      this.#initializers.set(name, { name, dtype, shape, data });
    }
    return { name };
  }
}
