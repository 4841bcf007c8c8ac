// Types every kernel library shares. Plain C++: no ONNX Runtime, no N-API.
#pragma once
#include <cstdint>

#include "element_types.h"

namespace switchyard {

// Element types that are computed with, by their numbers.
enum class DType : int32_t {
  kFloat32 = onnx::kFloat,
  kFloat16 = onnx::kFloat16,
  kBFloat16 = onnx::kBFloat16,
};

// Bytes of an element: as in the table, but without a search in it.
constexpr int64_t DTypeSize(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }
static_assert(DTypeSize(DType::kFloat32) == onnx::ElementSize(onnx::kFloat));
static_assert(DTypeSize(DType::kFloat16) == onnx::ElementSize(onnx::kFloat16));
static_assert(DTypeSize(DType::kBFloat16) == onnx::ElementSize(onnx::kBFloat16));

// What a matrix product may do to its activations. Accumulation is fp32 in both cases.
enum class Precision : int32_t {
  kFloat32 = 0,   // activations keep fp32 accuracy, weights are widened in registers
  kBFloat16 = 1,  // activations may be rounded to bf16 as they enter the product
  // The same, and those that meet integer codes may be rounded to int8 in blocks of 32.
  kFloat32Int8 = 2,
  kBFloat16Int8 = 3,
};

// A precision without what it allows for integer codes.
constexpr Precision FloatPart(Precision precision) {
  return static_cast<Precision>(static_cast<int32_t>(precision) & 1);
}
constexpr bool AllowsInt8(Precision precision) { return static_cast<int32_t>(precision) >= 2; }

// How MoeExperts executes. The values are the op's run-time selector.
enum class ExpertsImplementation : int32_t { kEager = 0, kBatchedMm = 1, kGroupedMm = 2 };
constexpr int64_t kImplementations = 3;

struct QuantizedTensor;
struct RowPanels;

// A weight matrix of logical shape [rows, cols] (out features, in features), read where it lies: no alignment
// is promised. Element (n, k) is at data[n * stride + k], or at data[k * stride + n] when transposed. One
// that is stored as codes begins in row first_row at column first_col of a stored matrix, and its element (n,
// k) is there in row n, column k, or in row k, column n when transposed; data, dtype and stride say nothing
// then.
struct WeightMatrix {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // in elements
  bool transposed = false;
  const QuantizedTensor* quantized = nullptr;
  int64_t matrix = 0, first_row = 0, first_col = 0;
  // Once they are complete, the same values are read from byte panels_at of these row panels.
  const RowPanels* panels = nullptr;
  int64_t panels_at = 0;

  bool empty() const { return data == nullptr && quantized == nullptr; }
};

struct ExpertWeights {
  WeightMatrix gate, up;  // [intermediate, hidden]
  WeightMatrix down;      // [hidden, intermediate]
};

}  // namespace switchyard
