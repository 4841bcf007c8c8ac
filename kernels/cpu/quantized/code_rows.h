// Codes of a quantized tensor as rows of nibbles or bytes, whatever their order on disk.
#pragma once
#include <cstdint>

#include "../../common/quantized.h"
#include "../arch/isa.h"

namespace switchyard::cpu {

// Part of a stored matrix.
struct StoredBlock {
  const QuantizedTensor* tensor;
  int64_t matrix;
  int64_t row0, row1;
  int64_t col0, col1;

  int64_t rows() const { return row1 - row0; }
  int64_t cols() const { return col1 - col0; }
};

// Row r of the block begins at data + r * stride.
struct CodeRows {
  const char* data;
  int64_t stride;
  CodeKind kind;
};

// Bytes of scratch that the rows of a block may need.
int64_t CodeRowsScratch(const QuantizedTensor& tensor, int64_t rows, int64_t cols);

// Where they lie as rows on disk, they are read there; otherwise they are brought into that order in
// `scratch`.
CodeRows ReadCodeRows(const KernelTable& table, const StoredBlock& block, char* scratch);

}  // namespace switchyard::cpu
