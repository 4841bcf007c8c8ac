import protobuf from 'protobufjs';
import { expect, test } from 'vitest';
import { AttributeType, encodeModel, type ModelProto } from '../../src/graph/onnx-proto.ts';

/** Field by field as in onnx.proto. */
const schema = protobuf
  .parse(
    `syntax = "proto3";
  message AttributeProto {
    string name = 1; float f = 2; int64 i = 3; bytes s = 4; repeated int64 ints = 8; int32 type = 20;
  }
  message NodeProto {
    repeated string input = 1; repeated string output = 2; string name = 3; string op_type = 4;
    repeated AttributeProto attribute = 5; string domain = 7;
  }
  message TensorProto { repeated int64 dims = 1; int32 data_type = 2; string name = 8; bytes raw_data = 9; }
  message TensorShapeProto {
    message Dimension { oneof value { int64 dim_value = 1; string dim_param = 2; } }
    repeated Dimension dim = 1;
  }
  message TypeProto {
    message Tensor { int32 elem_type = 1; TensorShapeProto shape = 2; }
    oneof value { Tensor tensor_type = 1; }
  }
  message ValueInfoProto { string name = 1; TypeProto type = 2; }
  message GraphProto {
    repeated NodeProto node = 1; string name = 2; repeated TensorProto initializer = 5;
    repeated ValueInfoProto input = 11; repeated ValueInfoProto output = 12;
  }
  message OperatorSetIdProto { string domain = 1; int64 version = 2; }
  message ModelProto {
    int64 ir_version = 1; string producer_name = 2; GraphProto graph = 7; repeated OperatorSetIdProto opset_import = 8;
  }`,
    { keepCase: true },
  )
  .root.lookupType('ModelProto');

const valueInfo = (name: string, dim: { dim_value?: number; dim_param?: string }[]) => ({
  name,
  type: { tensor_type: { elem_type: 1, shape: { dim } } },
});

const MODEL: ModelProto = {
  ir_version: 11,
  producer_name: 'switchyard',
  opset_import: [
    { domain: '', version: 21 },
    { domain: 'switchyard', version: 1 },
  ],
  graph: {
    name: 'graph',
    node: [
      {
        ...{ op_type: 'Any', domain: 'switchyard', name: 'née', input: ['x', '', 'y'], output: ['z'] },
        attribute: [
          { name: 'whole', i: 0, type: AttributeType.int },
          { name: 'below', i: -1, type: AttributeType.int },
          { name: 'large', i: 2 ** 53 - 1, type: AttributeType.int },
          { name: 'part', f: -1e-6, type: AttributeType.float },
          { name: 'text', s: new TextEncoder().encode('ä'), type: AttributeType.string },
          { name: 'list', ints: [0, -1, 300, 2 ** 40], type: AttributeType.ints },
          { name: 'none', ints: [], type: AttributeType.ints },
        ],
      },
      { op_type: 'Bare', domain: '', name: '', input: [], output: [], attribute: [] },
    ],
    initializer: [
      { name: 'w', data_type: 1, dims: [2, 300], raw_data: new Uint8Array(2400).map((_, i) => i) },
      { name: 'scalar', data_type: 7, dims: [], raw_data: new Uint8Array(8) },
    ],
    input: [valueInfo('x', [{ dim_param: 'tokens' }, { dim_value: 0 }, { dim_value: 2 ** 33 }])],
    output: [valueInfo('z', [])],
  },
};

test('a model has the very bytes that the schema gives it', () => {
  const expected = schema.encode(MODEL).finish();
  expect(Buffer.from(encodeModel(MODEL)).equals(Buffer.from(expected))).toBe(true);
});
