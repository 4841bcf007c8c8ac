// Stored tensors as fp32.
#pragma once
#include "weight_store.h"

namespace switchyard {

// Writes all elements of a bf16, fp16 or fp32 tensor as fp32.
void Widen(const StoredTensor& tensor, float* out);

// Whether an ONNX data type is bf16, fp16 or fp32.
bool IsWeightType(int32_t type);

}  // namespace switchyard
