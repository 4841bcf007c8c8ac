#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "../common/shape_text.h"

namespace switchyard::ops {

OpSchema Attention::Schema() {
  return {"Attention", {{ort::kFloat}, {ort::kFloat}, {ort::kFloat}}, {{ort::kFloat}}};
}

Attention::Attention(const KernelInfo& info)
    : heads(info.Int("num_heads")),
      kv_heads(info.Int("kv_num_heads")),
      scale(info.Float("scale")),
      precision(info.ReadPrecision()) {
  if (kv_heads < 1 || heads < 1 || heads % kv_heads != 0) {
    info.Fail("attribute 'num_heads' is " + std::to_string(heads) +
              "; expected a positive multiple of 'kv_num_heads', " + std::to_string(kv_heads));
  }
  if (!std::isfinite(scale) || scale < 0.0f) {
    info.Fail("attribute 'scale' is " + std::to_string(scale) + "; expected a number that is not negative");
  }
}

int64_t HeadSize(const std::string& node, const char* input, const std::vector<int64_t>& shape,
                 const char* leading, int64_t heads) {
  const size_t rank = static_cast<size_t>(std::count(leading, leading + std::strlen(leading), ',')) + 2;
  if (shape.size() == rank && shape.back() > 0 && shape.back() % heads == 0) return shape.back() / heads;
  throw std::runtime_error(node + ": input '" + input + "' has shape " + ShapeText(shape) + "; expected " +
                           leading + ", a multiple of " + std::to_string(heads) +
                           ", the number of its heads]");
}

void CheckShape(const std::string& node, const char* input, const std::vector<int64_t>& shape,
                const std::vector<int64_t>& expected) {
  if (shape == expected) return;
  throw std::runtime_error(node + ": input '" + input + "' has shape " + ShapeText(shape) + "; expected " +
                           ShapeText(expected));
}

}  // namespace switchyard::ops
