// Small tensors to fp32.
#pragma once
#include <cstdint>

#include "../common/types.h"

namespace switchyard::cpu {

// dst[i] = fp32 of element i of `src`, which may lie at any address.
void Widen(const void* src, DType dtype, int64_t count, float* dst);

}  // namespace switchyard::cpu
