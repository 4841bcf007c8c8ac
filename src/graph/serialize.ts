import { ELEMENT_TYPES } from '../dtype.ts';
import {
  type AttributeProto,
  AttributeType,
  encodeModel,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from './onnx-proto.ts';
import type { Attribute, GraphParts, Initializer, Node, TypedName } from './parts.ts';

const IR_VERSION = 11;

/** A graph as `onnx.ModelProto` bytes. @param opsets version of each domain */
export function serializeGraph(
  { inputs, initializers, nodes, outputs }: GraphParts,
  opsets: Readonly<Record<string, number>>,
): Uint8Array {
  return encodeModel({
    ir_version: IR_VERSION,
    producer_name: 'switchyard',
    opset_import: Object.entries(opsets).map(([domain, version]) => ({ domain, version })),
    graph: {
      name: 'switchyard',
      node: nodes.map(nodeProto),
      initializer: initializers.map(tensorProto),
      input: inputs.map(valueInfoProto),
      output: outputs.map(valueInfoProto),
    },
  });
}

function nodeProto({ opType, domain, inputs, outputs, attributes }: Node): NodeProto {
  return {
    op_type: opType,
    domain,
    name: outputs.find((output) => output !== '') ?? '',
    input: inputs,
    output: outputs,
    attribute: Object.entries(attributes).map(([name, value]) => attributeProto(name, value)),
  };
}

function attributeProto(name: string, value: Attribute): AttributeProto {
  if (typeof value === 'string')
    return { name, s: new TextEncoder().encode(value), type: AttributeType.string };
  if (typeof value === 'object' && 'float' in value)
    return { name, f: value.float, type: AttributeType.float };
  if (typeof value === 'object') return { name, ints: value, type: AttributeType.ints };
  if (typeof value === 'number' && !Number.isInteger(value))
    return { name, f: value, type: AttributeType.float };
  return { name, i: Number(value), type: AttributeType.int };
}

function tensorProto({ name, dtype, shape, data }: Initializer): TensorProto {
  return { name, data_type: ELEMENT_TYPES[dtype].onnx, dims: shape, raw_data: data };
}

function valueInfoProto({ name, dtype, shape }: TypedName): ValueInfoProto {
  const dim = shape.map((size) => (typeof size === 'number' ? { dim_value: size } : { dim_param: size }));
  return { name, type: { tensor_type: { elem_type: ELEMENT_TYPES[dtype].onnx, shape: { dim } } } };
}
