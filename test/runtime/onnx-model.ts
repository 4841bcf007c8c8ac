/** Writes small ONNX models for the runtime's tests. */
import protobuf from 'protobufjs';

const schema = protobuf
  .parse(
    `
  syntax = "proto3";
  message Attribute { string name = 1; float f = 2; int64 i = 3; bytes s = 4; repeated float floats = 7; repeated int64 ints = 8; int32 type = 20; }
  message Node { repeated string input = 1; repeated string output = 2; string name = 3; string op_type = 4; repeated Attribute attribute = 5; string domain = 7; }
  message Dim { oneof value { int64 dim_value = 1; string dim_param = 2; } }
  message Shape { repeated Dim dim = 1; }
  message TensorType { int32 elem_type = 1; Shape shape = 2; }
  message Type { TensorType tensor_type = 1; }
  message ValueInfo { string name = 1; Type type = 2; }
  message Graph { repeated Node node = 1; string name = 2; repeated ValueInfo input = 11; repeated ValueInfo output = 12; }
  message OpsetId { string domain = 1; int64 version = 2; }
  message Model { int64 ir_version = 1; Graph graph = 7; repeated OpsetId opset_import = 8; }
`,
    { keepCase: true },
  )
  .root.lookupType('Model');

const elementTypes = { float32: 1, uint8: 2, int32: 6, int64: 7, bool: 9, float16: 10, bfloat16: 16 };

/** A graph input or output; a string is a symbolic dimension. */
export interface ModelValue {
  name: string;
  type: keyof typeof elementTypes;
  shape: (number | string)[];
}

/** Attribute values: an array is INTS, a string STRING, `{ float }` FLOAT, a number INT. */
export type AttributeValue = number | string | readonly number[] | { float: number };

export interface ModelNode {
  op: string;
  inputs: string[];
  outputs: string[];
  /** Default: the custom ops' domain `switchyard`. Empty for standard ops. */
  domain?: string;
  name?: string;
  attributes?: Record<string, AttributeValue>;
}

export interface ModelDescription {
  inputs: ModelValue[];
  outputs: ModelValue[];
  nodes: ModelNode[];
}

export function encodeModel({ inputs, outputs, nodes }: ModelDescription): Uint8Array {
  const model = {
    ir_version: 10,
    opset_import: [
      { domain: '', version: 21 },
      { domain: 'switchyard', version: 1 },
      { domain: 'com.microsoft', version: 1 },
    ],
    graph: {
      name: 'test',
      input: inputs.map(toValueInfo),
      output: outputs.map(toValueInfo),
      node: nodes.map(toNode),
    },
  };
  return schema.encode(schema.fromObject(model)).finish();
}

function toValueInfo({ name, type, shape }: ModelValue) {
  const dim = shape.map((d) => (typeof d === 'number' ? { dim_value: d } : { dim_param: d }));
  return { name, type: { tensor_type: { elem_type: elementTypes[type], shape: { dim } } } };
}

function toNode({ op, inputs, outputs, domain = 'switchyard', name = '', attributes = {} }: ModelNode) {
  return {
    op_type: op,
    domain,
    name,
    input: inputs,
    output: outputs,
    attribute: Object.entries(attributes).map(([key, value]) => toAttribute(key, value)),
  };
}

function toAttribute(name: string, value: AttributeValue) {
  if (typeof value === 'number') return { name, type: 2, i: value };
  if (typeof value === 'string') return { name, type: 3, s: Buffer.from(value) };
  if ('float' in value) return { name, type: 1, f: value.float };
  return { name, type: 7, ints: [...value] };
}
