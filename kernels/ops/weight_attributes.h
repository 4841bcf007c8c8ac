// Reads weight attributes: handle → tensor of the store, checked for type and shape.
#pragma once
#include <string>
#include <vector>

#include "../weights/weight_ref.h"
#include "../weights/widen.h"
#include "op.h"

namespace switchyard::ops {

// A handle and where it was read, for messages.
struct WeightAttribute {
  int64_t handle;
  std::string name;
};

// "gate[3]"
std::string Indexed(const std::string& name, size_t index);

// Any extent, in an expected shape.
constexpr int64_t kAnyExtent = -1;
// The handle that means "no tensor".
constexpr int64_t kNoWeight = -1;

// The tensor behind a handle, which must be bf16, fp16, fp32 or quantized and match `expected`.
const StoredTensor& FindWeight(const KernelInfo& info, const WeightStore& store,
                               const WeightAttribute& attribute, const std::vector<int64_t>& expected);

// A tensor of shape [rows, cols]. Where `cols` is any extent, further dimensions are flattened into it: a
// convolution whose stride is its kernel is a product with its flattened kernel.
WeightRef FindMatrix(const KernelInfo& info, const WeightStore& store, const WeightAttribute& attribute,
                     int64_t rows, int64_t cols);

// A tensor of shape [cols] as a matrix of one row; an empty one for kNoWeight.
WeightRef FindBias(const KernelInfo& info, const WeightStore& store, const WeightAttribute& attribute,
                   int64_t cols);

}  // namespace switchyard::ops
