// A weight that is stored as codes, and what turns them into numbers.
//
// Element (r, c) of a matrix is, in fp32, (value(code) - zero) * scale + bias.
// src/weights/quantized-tensor.ts says the same for those who describe such weights, in more words.
#pragma once
#include <cstddef>
#include <cstdint>

#include "types.h"

namespace switchyard {

// What a code stands for.
enum class CodeType : int32_t {
  kUint = 0,   // an unsigned number
  kInt = 1,    // a number in two's complement, 8 bits
  kE4m3 = 2,   // float8, the kind without infinities
  kE2m1 = 3,   // float4
  kTable = 4,  // one of 16 values, 4 bits
};
constexpr int64_t kCodeTypes = 5;

// Where codes of b bits lie.
enum class CodeOrder : int32_t {
  kRows = 0,           // row after row, the low bits of a byte first
  kRowsHighFirst = 1,  // the same of 4 bits, the high half of a byte first, no gaps between rows
  kColumns = 2,        // words [cols * b / 32, rows] of 32/b neighbouring columns each (GPTQ)
  kAwq = 3,            // words [cols, rows / 8] of 8 neighbouring rows each, in AWQ's order
};
constexpr int64_t kCodeOrders = 4;

enum class ScaleType : int32_t { kFloat32, kFloat16, kBFloat16, kE4m3, kExponent, kTable };

// Where packed zero points lie; G groups of columns.
enum class ZeroOrder : int32_t {
  kColumns = 0,  // words [G, rows * b / 32] (GPTQ)
  kAwq = 1,      // the same in AWQ's order
  kRows = 2,     // words [rows * b / 32, G] (compressed-tensors)
};
constexpr int64_t kZeroOrders = 3;

// Which of 8 neighbouring rows lies in each nibble of one of AWQ's words, low bits first.
inline constexpr int kAwqRow[8] = {0, 2, 4, 6, 1, 3, 5, 7};

// Pointers lead into mapped files, at any alignment. Several matrices of one shape lie one after the other.
struct QuantizedTensor {
  int64_t matrices = 1, rows = 0, cols = 0;

  const std::byte* codes = nullptr;
  CodeType type = CodeType::kUint;
  CodeOrder order = CodeOrder::kRows;
  int bits = 0;
  int64_t row_bytes = 0;              // kRows: of one row
  const std::byte* values = nullptr;  // kTable: fp32 [16]

  const std::byte* scales = nullptr;
  ScaleType scale_type = ScaleType::kFloat32;
  // Rows and columns that share a scale. Where group_rows is 0, group_cols elements of the whole tensor,
  // counted from row to row.
  int64_t group_rows = 0, group_cols = 0;
  // From group to group of a matrix, and from matrix to matrix, in scales.
  int64_t row_step = 0, col_step = 0, matrix_step = 0;
  const std::byte* multiplier = nullptr;  // fp32, of all scales; null: `multiply`
  const std::byte* divisor = nullptr;     // likewise: `divide`
  float multiply = 1.0f, divide = 1.0f;
  // kTable: scale i is table_values[byte i] * table_scales[i / table_group] + table_offset; fp32.
  const std::byte* table_values = nullptr;
  const std::byte* table_scales = nullptr;
  int64_t table_group = 1;
  float table_offset = 0.0f;

  const std::byte* zeros = nullptr;  // packed as `bits` says; null: `zero` everywhere
  ZeroOrder zero_order = ZeroOrder::kColumns;
  bool zeros_less_one = false;  // words are stored with 1 less in every place
  int32_t zero = 0;

  const std::byte* biases = nullptr;  // on the grid of the scales; null: none
  DType bias_type = DType::kFloat32;

  const std::byte* column_groups = nullptr;  // int32 [cols]; null: c / group_cols

  bool flat() const { return group_rows == 0; }
  // Groups of columns in a row, where they lie side by side.
  int64_t col_groups() const { return (cols + group_cols - 1) / group_cols; }
};

}  // namespace switchyard
