// Float weights rounded to codes, a row at a time, in the layouts of compressed-tensors.
#pragma once
#include <cstdint>

namespace switchyard::cpu {

// Codes -127 to 127 and one scale, the greatest magnitude / 127: searching for a smaller scale would gain 4%
// of an error that is small already, and cut off the row's outliers. Returns false where a weight is not
// finite.
bool RoundToInt8(const float* row, int64_t cols, int8_t* codes, float* scale);

// How rows are rounded to 4 bits.
struct Int4Scheme {
  int64_t group = 32;        // columns that share a scale; a multiple of 8 that divides the columns
  bool zero_points = false;  // each group has a zero point of its own; without, it is 8
};

// Codes 0 to 15, two a byte, the first in the low half, and for each group a bf16 scale and, where wanted, a
// zero point: weight ~ (code - zero) * scale. Several ways to lay the codes over the group are tried, each
// with the scale that is best for its codes, and the one is taken whose squared error is least. Without zero
// points errors are weighted with sqrt(mean square of the group + weight^2), because the large weights carry
// the activations that matter, and the scale is signed such that the greatest magnitude falls on code 0.
// Returns false where a weight is not finite.
bool RoundToInt4(const float* row, int64_t cols, const Int4Scheme& scheme, uint8_t* codes, uint16_t* scales,
                 uint8_t* zeros);

}  // namespace switchyard::cpu
