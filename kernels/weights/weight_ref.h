// What kernels multiply with, as part of stored tensors.
#pragma once
#include <compare>
#include <cstdint>

#include "../common/float_types.h"
#include "../common/types.h"
#include "weight_store.h"

namespace switchyard {

// A matrix of logical shape [rows, cols] (out features, in features) in a stored tensor, seen as rows of
// `stride` elements of which the matrix begins in row first_row at first_col. Element (n, k) is in row
// first_row + n at first_col + k, or in row first_row + k at first_col + n when transposed. What ops, stores
// and devices hand on; each device finds its own addresses for it, at the last moment.
struct WeightRef {
  const StoredTensor* values = nullptr;  // null: no weight
  int64_t first_row = 0, first_col = 0;
  int64_t rows = 0, cols = 0;
  int64_t stride = 0;
  bool transposed = false;

  auto operator<=>(const WeightRef&) const = default;
  bool empty() const { return values == nullptr || rows * cols == 0; }
  DType dtype() const { return static_cast<DType>(values->type); }
  // The tensor's element at which the matrix begins.
  int64_t First() const { return first_row * stride + first_col; }
};

struct ExpertRefs {
  WeightRef gate, up;  // [intermediate, hidden]
  WeightRef down;      // [hidden, intermediate]
  auto operator<=>(const ExpertRefs&) const = default;
};

// A weight in the mapped file.
inline WeightMatrix InPlace(const WeightRef& ref) {
  if (ref.values == nullptr) return {};
  if (const QuantizedTensor* quantized = ref.values->quantized.get(); quantized != nullptr) {
    WeightMatrix matrix = {.rows = ref.rows, .cols = ref.cols, .transposed = ref.transposed};
    matrix.quantized = quantized;
    matrix.matrix = ref.first_row / quantized->rows;
    matrix.first_row = ref.first_row % quantized->rows;
    matrix.first_col = ref.first_col;
    return matrix;
  }
  return {.data = ref.values->data + ref.First() * DTypeSize(ref.dtype()),
          .dtype = ref.dtype(),
          .rows = ref.rows,
          .cols = ref.cols,
          .stride = ref.stride,
          .transposed = ref.transposed};
}

inline ExpertWeights InPlace(const ExpertRefs& refs) {
  return {InPlace(refs.gate), InPlace(refs.up), InPlace(refs.down)};
}

// The same for products of the CPU, which read row panels instead once there are some. Says that they are
// wanted.
inline WeightMatrix InPanels(const WeightRef& ref) {
  WeightMatrix matrix = InPlace(ref);
  const bool possible = ref.values != nullptr && ref.values->panels != nullptr && !ref.transposed &&
                        ref.cols == ref.stride && ref.first_row % kPanelRows == 0 &&
                        ref.rows % kPanelRows == 0 && ref.cols == ref.values->shape.back();
  if (!possible) return matrix;
  ref.values->panels->wanted = true;
  matrix.panels = ref.values->panels;
  matrix.panels_at = ref.First() * DTypeSize(ref.dtype());
  return matrix;
}

}  // namespace switchyard
