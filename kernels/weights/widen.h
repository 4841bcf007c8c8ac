// Stored tensors as fp32.
#pragma once
#include "weight_store.h"

namespace switchyard {

// Writes all elements of a bf16, fp16, fp32 or quantized tensor as fp32.
void Widen(const StoredTensor& tensor, float* out);

// Whether kernels can multiply with a tensor: one of these.
bool IsWeight(const StoredTensor& tensor);

// Whether an ONNX data type is bf16, fp16 or fp32.
bool IsWeightType(int32_t type);

}  // namespace switchyard
