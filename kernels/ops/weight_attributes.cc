#include "weight_attributes.h"

#include <algorithm>
#include <stdexcept>

namespace switchyard::ops {
namespace {

bool Matches(const std::vector<int64_t>& shape, const std::vector<int64_t>& expected) {
  if (shape.size() != expected.size()) return false;
  for (size_t i = 0; i < shape.size(); i++) {
    if (expected[i] != kAnyExtent && shape[i] != expected[i]) return false;
  }
  return true;
}

std::string ExpectedText(const std::vector<int64_t>& expected) {
  std::string text = "[";
  for (size_t i = 0; i < expected.size(); i++) {
    text +=
        (i == 0 ? "" : ", ") + (expected[i] == kAnyExtent ? std::string("any") : std::to_string(expected[i]));
  }
  return text + "]";
}

const StoredTensor& Get(const KernelInfo& info, const WeightStore& store, const WeightAttribute& attribute) {
  try {
    return store.Get(attribute.handle);
  } catch (const std::runtime_error& error) {
    info.Fail("attribute '" + attribute.name + "': " + error.what());
  }
}

}  // namespace

std::string Indexed(const std::string& name, size_t index) {
  return name + "[" + std::to_string(index) + "]";
}

const StoredTensor& FindWeight(const KernelInfo& info, const WeightStore& store,
                               const WeightAttribute& attribute, const std::vector<int64_t>& expected) {
  const StoredTensor& tensor = Get(info, store, attribute);
  const std::string where = "attribute '" + attribute.name + "': tensor '" + tensor.name + "'";
  if (!IsWeight(tensor)) {
    info.Fail(where + " is " + ort::ElementName(static_cast<ort::ElementType>(tensor.type)) +
              "; expected bfloat16, float16 or float32");
  }
  if (!Matches(tensor.shape, expected)) {
    info.Fail(where + " has shape " + ShapeText(tensor.shape) + "; expected " + ExpectedText(expected));
  }
  return tensor;
}

WeightRef FindMatrix(const KernelInfo& info, const WeightStore& store, const WeightAttribute& attribute,
                     int64_t rows, int64_t cols) {
  std::vector<int64_t> expected = {rows, cols};
  if (cols == kAnyExtent)
    expected.resize(std::max<size_t>(2, Get(info, store, attribute).shape.size()), kAnyExtent);
  const StoredTensor& tensor = FindWeight(info, store, attribute, expected);
  if (tensor.quantized != nullptr && tensor.shape.size() != 2) {
    info.Fail("attribute '" + attribute.name + "': tensor '" + tensor.name + "' is quantized and has shape " +
              ShapeText(tensor.shape) + "; expected two dimensions");
  }
  int64_t width = 1;
  for (size_t i = 1; i < tensor.shape.size(); i++) width *= tensor.shape[i];
  return {.values = &tensor,
          .first_row = 0,
          .first_col = 0,
          .rows = tensor.shape[0],
          .cols = width,
          .stride = width,
          .transposed = false};
}

WeightRef FindBias(const KernelInfo& info, const WeightStore& store, const WeightAttribute& attribute,
                   int64_t cols) {
  if (attribute.handle == kNoWeight) return {};
  const StoredTensor& tensor = FindWeight(info, store, attribute, {cols});
  const int64_t count = tensor.shape[0];
  return {.values = &tensor,
          .first_row = 0,
          .first_col = 0,
          .rows = 1,
          .cols = count,
          .stride = count,
          .transposed = false};
}

}  // namespace switchyard::ops
