import { SwitchyardError } from '../errors.ts';
import { AttributeType, DataType, type DataTypeName, ModelProto } from './onnx-proto.ts';
import type { WeightSource } from './weight-source.ts';

/** Domain of Switchyard's own ops; `kernels/ops` registers the same string. */
export const SWITCHYARD_DOMAIN = 'switchyard';
/** Domain of ONNX Runtime's own ops. */
export const MICROSOFT_DOMAIN = 'com.microsoft';

const OPSETS = { '': 23, [MICROSOFT_DOMAIN]: 1, [SWITCHYARD_DOMAIN]: 1 };
const IR_VERSION = 11;
/** Values of a constant that `listing` shows. */
const LISTED_VALUES = 8;

/** A tensor somewhere in the graph, by its name. */
export interface Value {
  readonly name: string;
}

/** Symbolic (`'batch'`) or fixed dimension. */
export type Dimension = string | number;

/** Numbers become int (if integral) or float; wrap in `float()` where an integral value is meant as float. */
export type Attribute = number | bigint | string | readonly number[] | FloatAttribute;
export interface FloatAttribute {
  readonly float: number;
}

/** A float attribute, also for integral values such as 1. */
export const float = (value: number): FloatAttribute => ({ float: value });

export interface OpOptions {
  /** Default: the ONNX domain. */
  domain?: string;
  /** Number of outputs; default 1. A list marks unused ones with false. */
  outputs?: number | readonly boolean[];
}

interface Node {
  opType: string;
  domain: string;
  inputs: string[];
  outputs: string[];
  attributes: Record<string, Attribute>;
}

interface TypedName {
  name: string;
  dtype: DataTypeName;
  shape: readonly Dimension[];
}

interface Initializer {
  name: string;
  dtype: DataTypeName;
  shape: readonly number[];
  data: Uint8Array;
}

/**
 * An ONNX graph under construction. Nodes are added in execution order, each returning its output value, so that code
 * building a graph reads like the equations it stands for.
 */
export class Graph {
  /** Where the weights are. */
  readonly weights: WeightSource;
  /**
   * Values every layer may read, and replace by a newer one: the experts selector and the call counters are threaded
   * through the graph this way.
   */
  readonly shared = new Map<string, Value>();
  /** Stored tensors that every run reads from end to end, or may. */
  readonly streamed = new Set<string>();
  /** Graph inputs that stand for a stored tensor's bytes: input name → tensor name. */
  readonly boundInputs: Record<string, string> = {};

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

  input(name: string, dtype: DataTypeName, shape: readonly Dimension[]): Value {
    this.#inputs.push({ name, dtype, shape });
    return { name };
  }

  /** Makes `value` a graph output under `name`. */
  output(value: Value, name: string, dtype: DataTypeName, shape: readonly Dimension[]): void {
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
  int64(values: readonly number[], shape: readonly number[] = [values.length]): Value {
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
    this.streamed.add(name);
    return this.table(name, shape);
  }

  /** As `weight`, for a tensor of which a run reads only some rows. */
  table(name: string, shape: readonly number[]): number {
    return this.weights.request(name, shape) ? this.weights.handle(name) : -1;
  }

  /** A small stored tensor (a norm's weight), widened to fp32 and written into the graph. */
  vector(name: string, shape: readonly number[]): Value {
    const cached = this.#widened.get(name);
    if (cached) return cached;
    const size = shape.reduce((a, b) => a * b, 1);
    const data = this.weights.request(name, shape) ? this.weights.readFloat32(name) : new Float32Array(size);
    const value = this.#constant('float32', shape, data, undefined, name);
    this.#widened.set(name, value);
    return value;
  }

  /**
   * A stored tensor as an fp32 value for standard ONNX ops: a graph input bound to the tensor's bytes in place, widened by
   * `Cast` on each run.
   */
  value(name: string, shape: readonly number[]): Value {
    const cached = this.#widened.get(name);
    if (cached) return cached;
    const info = this.weights.request(name, shape);
    const dtype = info ? DTYPE_OF_STORED[info.dtype] : 'float32';
    if (!dtype)
      throw new SwitchyardError(
        `tensor ${name} has dtype ${info?.dtype}; a graph value needs F32, F16 or BF16`,
      );
    const inputName = `weight:${name}`;
    this.boundInputs[inputName] = name;
    const bound = this.input(inputName, dtype, shape);
    const value = dtype === 'float32' ? bound : this.op('Cast', [bound], { to: DataType.float32 });
    this.#widened.set(name, value);
    return value;
  }

  /** One line for each input, constant, node and output, for people and for snapshot tests. */
  listing(): string {
    const attributeText = (value: Attribute) =>
      typeof value === 'object' && 'float' in value ? String(value.float) : JSON.stringify(value);
    const lines = this.#inputs.map(
      (input) => `input ${input.name}: ${input.dtype}[${input.shape.join(',')}]`,
    );
    for (const { name, dtype, shape, data } of this.#initializers.values())
      lines.push(`constant ${name}: ${dtype}[${shape.join(',')}]${shortValues(dtype, data)}`);
    for (const node of this.#nodes) {
      const parameters = Object.entries(node.attributes)
        .map(([key, value]) => `${key}=${attributeText(value)}`)
        .join(' ');
      const op = node.domain ? `${node.domain}.${node.opType}` : node.opType;
      lines.push(
        `${node.outputs.join(', ')} = ${op}(${node.inputs.join(', ')})${parameters && ` {${parameters}}`}`,
      );
    }
    for (const output of this.#outputs)
      lines.push(`output ${output.name}: ${output.dtype}[${output.shape.join(',')}]`);
    return lines.join('\n');
  }

  /** The graph as `onnx.ModelProto` bytes. */
  serialize(): Uint8Array {
    return ModelProto.encode({
      ir_version: IR_VERSION,
      producer_name: 'switchyard',
      opset_import: Object.entries(OPSETS).map(([domain, version]) => ({ domain, version })),
      graph: {
        name: 'switchyard',
        node: this.#nodes.map((node) => ({
          op_type: node.opType,
          domain: node.domain,
          name: node.outputs.find((output) => output !== '') ?? '',
          input: node.inputs,
          output: node.outputs,
          attribute: Object.entries(node.attributes).map(([name, value]) => attributeProto(name, value)),
        })),
        initializer: [...this.#initializers.values()].map((tensor) => ({
          name: tensor.name,
          data_type: DataType[tensor.dtype],
          dims: tensor.shape,
          raw_data: tensor.data,
        })),
        input: this.#inputs.map(valueInfoProto),
        output: this.#outputs.map(valueInfoProto),
      },
    }).finish();
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
    dtype: DataTypeName,
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

const DTYPE_OF_STORED: Readonly<Record<string, DataTypeName>> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
};

/** ` = [values]` of a constant, the first few where there are many. */
function shortValues(dtype: DataTypeName, data: Uint8Array): string {
  const array = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array }[dtype as 'float32'];
  const values: (number | bigint)[] = [...new array(data.slice().buffer)];
  const text = values
    .slice(0, LISTED_VALUES)
    .map((value) => String(typeof value === 'bigint' ? value : Number(value.toPrecision(6))));
  return ` = [${text.join(', ')}${values.length > LISTED_VALUES ? ', …' : ''}]`;
}

function attributeProto(name: string, value: Attribute) {
  if (typeof value === 'string')
    return { name, s: new TextEncoder().encode(value), type: AttributeType.string };
  if (typeof value === 'object' && 'float' in value)
    return { name, f: value.float, type: AttributeType.float };
  if (typeof value === 'object') return { name, ints: value, type: AttributeType.ints };
  if (typeof value === 'number' && !Number.isInteger(value))
    return { name, f: value, type: AttributeType.float };
  return { name, i: Number(value), type: AttributeType.int };
}

function valueInfoProto({ name, dtype, shape }: TypedName) {
  const dim = shape.map((size) => (typeof size === 'number' ? { dim_value: size } : { dim_param: size }));
  return { name, type: { tensor_type: { elem_type: DataType[dtype], shape: { dim } } } };
}
