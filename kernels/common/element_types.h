// Element types of tensors: their numbers, names and sizes, in this one table. Plain C++, as types.h.
#pragma once
#include <cstddef>
#include <cstdint>

namespace switchyard::onnx {

// TensorProto.DataType numbers, of those that the engine knows.
enum ElementType : int32_t {
  kUndefined = 0,
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
  kUint32 = 12,
  kUint64 = 13,
  kBFloat16 = 16,
  kFloat8E4m3 = 17,
  kFloat8E5m2 = 19,
};

struct ElementRow {
  ElementType type;
  const char* name;
  size_t bytes;  // 0: an element has no size of its own
};

// In the words of src/dtype.ts.
inline constexpr ElementRow kElementTypes[] = {
    {kFloat, "float32", 4},         {kUint8, "uint8", 1},       {kInt8, "int8", 1},
    {kUint16, "uint16", 2},         {kInt16, "int16", 2},       {kInt32, "int32", 4},
    {kInt64, "int64", 8},           {kString, "string", 0},     {kBool, "bool", 1},
    {kFloat16, "float16", 2},       {kDouble, "float64", 8},    {kUint32, "uint32", 4},
    {kUint64, "uint64", 8},         {kBFloat16, "bfloat16", 2}, {kFloat8E4m3, "float8e4m3fn", 1},
    {kFloat8E5m2, "float8e5m2", 1},
};

// The row of a type, or one without a size where there is none.
constexpr ElementRow RowOf(ElementType type) {
  for (const ElementRow& row : kElementTypes) {
    if (row.type == type) return row;
  }
  return {kUndefined, "unknown", 0};
}

// Bytes of one element; 0 for types that are unknown, or without a fixed size.
constexpr size_t ElementSize(ElementType type) { return RowOf(type).bytes; }
constexpr const char* ElementName(ElementType type) { return RowOf(type).name; }

}  // namespace switchyard::onnx
