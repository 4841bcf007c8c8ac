#include "widen.h"

#include "../common/float_types.h"

namespace switchyard::ops {

void Widen(const StoredTensor& tensor, float* out) {
  const auto type = static_cast<DType>(tensor.type);
  const size_t size = static_cast<size_t>(DTypeSize(type));
  for (size_t i = 0; i * size < tensor.bytes; i++) out[i] = LoadElement(tensor.data + i * size, type);
}

}  // namespace switchyard::ops
