// Op NgramRows: which rows of a table of hashed n-grams each token reads, the memory of Qwen4 (HF
// Qwen4ExpTextNGramEmbedding).
#pragma once
#include <string>

#include "op.h"

namespace switchyard::ops {

// Inputs: ids int64 [T]; preceding int64 [n - 1, T], in row i the id i + 1 places before each token, -1 where
// its sequence has none; multipliers int64 [n]; sizes, offsets int64 [heads], as many heads for each order
// from 2 to n. Output: rows int64 [T, heads].
//
// A head of order m reads row (⊕ of id · multiplier over the last m ids) mod size + offset, products and ⊕ in
// 64 bits, the remainder never negative. An id at or before an earlier attribute `end_id` counts as it, and
// so does one before the sequence.
struct NgramRows {
  enum Input : size_t { kIds, kPreceding, kMultipliers, kSizes, kOffsets };
  struct Sizes {
    int64_t tokens, order, heads;
  };

  static OpSchema Schema();
  explicit NgramRows(const KernelInfo& info);

  // Throws std::runtime_error beginning with `node` unless the inputs fit.
  Sizes CheckShapes(const std::string& node, const KernelContext& context) const;

  int64_t end_id;
};

}  // namespace switchyard::ops
