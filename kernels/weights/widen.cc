#include "widen.h"

#include "../common/quantized_elements.h"

namespace switchyard {
namespace {

void Dequantize(const QuantizedTensor& q, float* out) {
  for (int64_t m = 0; m < q.matrices; m++) {
    for (int64_t r = 0; r < q.rows; r++) {
      for (int64_t c = 0; c < q.cols; c++) *out++ = QuantizedElement(q, m, r, c);
    }
  }
}

}  // namespace

void Widen(const StoredTensor& tensor, float* out) {
  if (tensor.quantized != nullptr) return Dequantize(*tensor.quantized, out);
  const auto type = static_cast<DType>(tensor.type);
  const size_t size = static_cast<size_t>(DTypeSize(type));
  for (size_t i = 0; i * size < tensor.bytes; i++) out[i] = LoadElement(tensor.data + i * size, type);
}

bool IsWeight(const StoredTensor& tensor) { return tensor.quantized != nullptr || IsWeightType(tensor.type); }

bool IsWeightType(int32_t type) {
  return type == static_cast<int32_t>(DType::kFloat32) || type == static_cast<int32_t>(DType::kFloat16) ||
         type == static_cast<int32_t>(DType::kBFloat16);
}

}  // namespace switchyard
