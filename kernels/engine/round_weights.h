// Stored weights rounded to codes, a few rows at a time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../weights/weight_store.h"

namespace switchyard {

// Which rows of a stored tensor, and how they are rounded. The tensor is a matrix [R, C] or several [E, R,
// C].
struct RoundRequest {
  int64_t handle = 0;
  int64_t matrix = 0;
  // Element (n, k) is stored in row first_row + n at first_col + k, or in row first_row + k at first_col + n
  // when transposed.
  int64_t first_row = 0, first_col = 0;
  int64_t rows = 0, cols = 0;
  bool transposed = false;
  int64_t bits = 8;  // 8: one fp32 scale a row; 4: bf16 scales of groups
  int64_t group = 32;
  bool zero_points = false;
};

// In the layouts of compressed-tensors.
struct RoundedRows {
  std::vector<std::byte> codes;   // int8 [rows, cols], or two a byte, the first in the low half
  std::vector<std::byte> scales;  // fp32 [rows], or bf16 [rows, groups]
  std::vector<std::byte>
      zeros;  // 32-bit words [ceil(rows / 8), groups] of 8 neighbouring rows; empty without
};

// Throws std::invalid_argument for rows that the tensor does not have or a scheme that does not fit it, and
// WeightFileError for a weight that is no finite number.
RoundedRows RoundWeights(const WeightStore& store, const RoundRequest& request);

}  // namespace switchyard
