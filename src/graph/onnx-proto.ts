/**
 * The part of ONNX's protobuf schema (onnx.proto, IR version 11) that a generated graph uses: of each message the fields with their
 * numbers, as functions that write them. Written out, because reading the schema as text takes longer than building a graph.
 */
import protobuf from 'protobufjs/minimal.js';

type Writer = protobuf.Writer;
type Write<T> = (writer: Writer, value: T) => void;

/** Protobuf's wire types. */
const VARINT = 0;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

const tag = (writer: Writer, id: number, wireType: number) => writer.uint32((id << 3) | wireType);

const int =
  (id: number): Write<number> =>
  (writer, value) =>
    void tag(writer, id, VARINT).int64(value);
const float =
  (id: number): Write<number> =>
  (writer, value) =>
    void tag(writer, id, FIXED32).float(value);
const text =
  (id: number): Write<string> =>
  (writer, value) =>
    void tag(writer, id, LENGTH_DELIMITED).string(value);
const bytes =
  (id: number): Write<Uint8Array> =>
  (writer, value) =>
    void tag(writer, id, LENGTH_DELIMITED).bytes(value);

function ints(id: number): Write<readonly number[]> {
  return (writer, values) => {
    if (values.length === 0) return;
    tag(writer, id, LENGTH_DELIMITED).fork();
    for (const value of values) writer.int64(value);
    writer.ldelim();
  };
}

function repeated<T>(write: Write<T>): Write<readonly T[]> {
  return (writer, values) => {
    for (const value of values) write(writer, value);
  };
}

/** A message within another, as field `id` of that. */
function nested<T>(id: number, write: Write<T>): Write<T> {
  return (writer, value) => {
    tag(writer, id, LENGTH_DELIMITED).fork();
    write(writer, value);
    writer.ldelim();
  };
}

/** What proto3 takes a field for that is not there. */
const isDefault = (value: unknown) => value === 0 || value === '' || (value as Uint8Array).byteLength === 0;

/** Fields in the order of their numbers. Those that a value lacks, and but in a `oneof` those with the default, are not written. */
function message<T>(
  fields: { readonly [Name in keyof Required<T>]: Write<Required<T>[Name]> },
  { oneof = false } = {},
): Write<T> {
  const entries = Object.entries(fields) as [keyof T, Write<unknown>][];
  return (writer, value) => {
    for (const [name, write] of entries)
      if (value[name] !== undefined && (oneof || !isDefault(value[name]))) write(writer, value[name]);
  };
}

export interface AttributeProto {
  readonly name: string;
  readonly f?: number;
  readonly i?: number;
  readonly s?: Uint8Array;
  readonly ints?: readonly number[];
  /** One of {@link AttributeType}. */
  readonly type: number;
}

export interface NodeProto {
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly name: string;
  readonly op_type: string;
  readonly attribute: readonly AttributeProto[];
  readonly domain: string;
}

export interface TensorProto {
  readonly dims: readonly number[];
  readonly data_type: number;
  readonly name: string;
  readonly raw_data: Uint8Array;
}

export interface DimensionProto {
  readonly dim_value?: number;
  readonly dim_param?: string;
}

export interface ValueInfoProto {
  readonly name: string;
  readonly type: {
    readonly tensor_type: {
      readonly elem_type: number;
      readonly shape: { readonly dim: readonly DimensionProto[] };
    };
  };
}

export interface ModelProto {
  readonly ir_version: number;
  readonly producer_name: string;
  readonly graph: {
    readonly node: readonly NodeProto[];
    readonly name: string;
    readonly initializer: readonly TensorProto[];
    readonly input: readonly ValueInfoProto[];
    readonly output: readonly ValueInfoProto[];
  };
  readonly opset_import: readonly { readonly domain: string; readonly version: number }[];
}

const attribute = message<AttributeProto>({
  ...{ name: text(1), f: float(2), i: int(3), s: bytes(4), ints: ints(8), type: int(20) },
});
const node = message<NodeProto>({
  ...{ input: repeated(text(1)), output: repeated(text(2)), name: text(3), op_type: text(4) },
  ...{ attribute: repeated(nested(5, attribute)), domain: text(7) },
});
const tensor = message<TensorProto>({ dims: ints(1), data_type: int(2), name: text(8), raw_data: bytes(9) });
const dimension = message<DimensionProto>({ dim_value: int(1), dim_param: text(2) }, { oneof: true });
const shape = message<ValueInfoProto['type']['tensor_type']['shape']>({
  dim: repeated(nested(1, dimension)),
});
const tensorType = message<ValueInfoProto['type']['tensor_type']>({
  elem_type: int(1),
  shape: nested(2, shape),
});
const valueInfo = message<ValueInfoProto>({
  name: text(1),
  type: nested(2, message<ValueInfoProto['type']>({ tensor_type: nested(1, tensorType) })),
});
const graph = message<ModelProto['graph']>({
  ...{ node: repeated(nested(1, node)), name: text(2), initializer: repeated(nested(5, tensor)) },
  ...{ input: repeated(nested(11, valueInfo)), output: repeated(nested(12, valueInfo)) },
});
const opset = message<ModelProto['opset_import'][number]>({ domain: text(1), version: int(2) });
const model = message<ModelProto>({
  ...{ ir_version: int(1), producer_name: text(2), graph: nested(7, graph) },
  opset_import: repeated(nested(8, opset)),
});

/** The bytes of an `onnx.ModelProto`. */
export function encodeModel(value: ModelProto): Uint8Array {
  const writer = protobuf.Writer.create();
  model(writer, value);
  return writer.finish();
}

/** ONNX `AttributeProto.AttributeType` numbers in use. */
export const AttributeType = { float: 1, int: 2, string: 3, floats: 6, ints: 7 } as const;
