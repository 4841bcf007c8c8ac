// Stored tensors as fp32.
#pragma once
#include "../common/weight_store.h"

namespace switchyard::ops {

// Writes all elements of a bf16, fp16 or fp32 tensor as fp32.
void Widen(const StoredTensor& tensor, float* out);

}  // namespace switchyard::ops
