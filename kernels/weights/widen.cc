#include "widen.h"

#include "../common/float_types.h"

namespace switchyard {

void Widen(const StoredTensor& tensor, float* out) {
  const auto type = static_cast<DType>(tensor.type);
  const size_t size = static_cast<size_t>(DTypeSize(type));
  for (size_t i = 0; i * size < tensor.bytes; i++) out[i] = LoadElement(tensor.data + i * size, type);
}

bool IsWeightType(int32_t type) {
  return type == static_cast<int32_t>(DType::kFloat32) || type == static_cast<int32_t>(DType::kFloat16) ||
         type == static_cast<int32_t>(DType::kBFloat16);
}

}  // namespace switchyard
