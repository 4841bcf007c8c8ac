// Single elements of quantized tensors: the specification that all faster readers are measured by.
#pragma once
#include <algorithm>
#include <cstring>

#include "float_types.h"
#include "quantized.h"

namespace switchyard {

template <typename T>
T LoadAt(const std::byte* data, int64_t index) {
  T value;
  std::memcpy(&value, data + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

// Bias 7, subnormals in units of 2^-9, 0x7f and 0xff NaN.
inline float E4m3ToFloat(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80u) << 24;
  const uint32_t magnitude = bits & 0x7fu;
  if (magnitude == 0x7fu) return FloatFromBits(sign | 0x7fc00000u);
  if (magnitude >= 8) return FloatFromBits(sign | ((magnitude << 20) + (120u << 23)));
  const float value = static_cast<float>(magnitude) * FloatFromBits(118u << 23);
  return sign != 0 ? -value : value;
}

inline constexpr float kE2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                    -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// 2^(e - 127); 255 is NaN.
inline float ExponentToFloat(uint8_t e) {
  if (e == 0) return FloatFromBits(0x00400000u);
  return FloatFromBits(e == 255 ? 0x7fc00000u : static_cast<uint32_t>(e) << 23);
}

// The code at bit `at` of a stream, low bits first.
inline uint32_t CodeInStream(const std::byte* stream, int64_t at, int bits) {
  const std::byte* p = stream + at / 8;
  const int shift = static_cast<int>(at % 8);
  uint32_t word = static_cast<uint32_t>(p[0]);
  if (shift + bits > 8) word |= static_cast<uint32_t>(p[1]) << 8;
  return (word >> shift) & ((1u << bits) - 1u);
}

inline uint32_t CodeAt(const QuantizedTensor& q, int64_t matrix, int64_t row, int64_t col) {
  switch (q.order) {
    case CodeOrder::kRows:
      return CodeInStream(q.codes + (matrix * q.rows + row) * q.row_bytes, col * q.bits, q.bits);
    case CodeOrder::kRowsHighFirst: {
      const int64_t at = (matrix * q.rows + row) * q.cols + col;
      return (static_cast<uint32_t>(q.codes[at / 2]) >> (at % 2 == 0 ? 4 : 0)) & 0xfu;
    }
    case CodeOrder::kColumns: {
      const int64_t per_word = 32 / q.bits;
      const uint32_t word = LoadAt<uint32_t>(q.codes, col / per_word * q.rows + row);
      return (word >> (col % per_word * q.bits)) & ((1u << q.bits) - 1u);
    }
    case CodeOrder::kAwq: {
      const uint32_t word = LoadAt<uint32_t>(q.codes, col * (q.rows / 8) + row / 8);
      int nibble = 0;
      while (kAwqRow[nibble] != row % 8) ++nibble;
      return (word >> (4 * nibble)) & 0xfu;
    }
  }
  return 0;
}

inline float CodeValue(const QuantizedTensor& q, uint32_t code) {
  switch (q.type) {
    case CodeType::kUint:
      return static_cast<float>(code);
    case CodeType::kInt:
      return static_cast<float>(static_cast<int8_t>(code));
    case CodeType::kE4m3:
      return E4m3ToFloat(static_cast<uint8_t>(code));
    case CodeType::kE2m1:
      return kE2m1[code];
    case CodeType::kTable:
      return LoadAt<float>(q.values, code);
  }
  return 0.0f;
}

// The group of columns that a column belongs to; not for flat groups. A file that is written to meanwhile
// must not lead elsewhere.
inline int64_t ColumnGroup(const QuantizedTensor& q, int64_t col) {
  if (q.column_groups == nullptr) return col / q.group_cols;
  return std::clamp<int64_t>(LoadAt<int32_t>(q.column_groups, col), 0, q.col_groups() - 1);
}

// Which of the tensor's scales belongs to a row and a group of columns; not for flat groups.
inline int64_t ScaleIndex(const QuantizedTensor& q, int64_t matrix, int64_t row, int64_t group) {
  return matrix * q.matrix_step + row / q.group_rows * q.row_step + group * q.col_step;
}

// The scale at an index as stored, before it is multiplied and divided by what all share.
inline float StoredScale(const QuantizedTensor& q, int64_t index) {
  switch (q.scale_type) {
    case ScaleType::kFloat32:
      return LoadAt<float>(q.scales, index);
    case ScaleType::kFloat16:
      return Fp16ToFloat(LoadAt<uint16_t>(q.scales, index));
    case ScaleType::kBFloat16:
      return Bf16ToFloat(LoadAt<uint16_t>(q.scales, index));
    case ScaleType::kE4m3:
      return E4m3ToFloat(static_cast<uint8_t>(q.scales[index]));
    case ScaleType::kExponent:
      return ExponentToFloat(static_cast<uint8_t>(q.scales[index]));
    case ScaleType::kTable: {
      const float product = LoadAt<float>(q.table_values, static_cast<int64_t>(q.scales[index])) *
                            LoadAt<float>(q.table_scales, index / q.table_group);
      return product + q.table_offset;
    }
  }
  return 0.0f;
}

inline float CommonMultiplier(const QuantizedTensor& q) {
  return q.multiplier != nullptr ? LoadAt<float>(q.multiplier, 0) : q.multiply;
}

inline float CommonDivisor(const QuantizedTensor& q) {
  return q.divisor != nullptr ? LoadAt<float>(q.divisor, 0) : q.divide;
}

inline float ScaleAt(const QuantizedTensor& q, int64_t index) {
  return StoredScale(q, index) * CommonMultiplier(q) / CommonDivisor(q);
}

inline float BiasAt(const QuantizedTensor& q, int64_t index) {
  return LoadElement(q.biases + index * DTypeSize(q.bias_type), q.bias_type);
}

inline float ZeroAt(const QuantizedTensor& q, int64_t row, int64_t group) {
  if (q.zeros == nullptr) return static_cast<float>(q.zero);
  const int64_t per_word = 32 / q.bits;
  const int64_t words = (q.rows + per_word - 1) / per_word;
  const int64_t index = q.zero_order == ZeroOrder::kRows ? row / per_word * q.col_groups() + group
                                                         : group * words + row / per_word;
  int64_t place = row % per_word;
  if (q.zero_order == ZeroOrder::kAwq) {
    int nibble = 0;
    while (kAwqRow[nibble] != place) ++nibble;
    place = nibble;
  }
  uint32_t word = LoadAt<uint32_t>(q.zeros, index);
  if (q.zeros_less_one) word += 0xffffffffu / ((1u << q.bits) - 1u);
  return static_cast<float>((word >> (place * q.bits)) & ((1u << q.bits) - 1u));
}

// Element (row, col) of a matrix.
inline float QuantizedElement(const QuantizedTensor& q, int64_t matrix, int64_t row, int64_t col) {
  const int64_t group = q.flat() ? 0 : ColumnGroup(q, col);
  const int64_t index =
      q.flat() ? ((matrix * q.rows + row) * q.cols + col) / q.group_cols : ScaleIndex(q, matrix, row, group);
  const float code = CodeValue(q, CodeAt(q, matrix, row, col)) - ZeroAt(q, row, group);
  const float product = code * ScaleAt(q, index);
  return q.biases == nullptr ? product : product + BiasAt(q, index);
}

}  // namespace switchyard
