// Stored tensors as fp32.
#pragma once
#include "weight_ref.h"

namespace switchyard {

// Writes all elements of a bf16, fp16, fp32 or quantized tensor as fp32.
void Widen(const StoredTensor& tensor, float* out);

// Writes a row of a matrix as fp32.
void WidenRow(const WeightRef& matrix, int64_t row, float* out);

// Whether kernels can multiply with a tensor: one of these.
bool IsWeight(const StoredTensor& tensor);

// Whether an ONNX data type is bf16, fp16 or fp32.
bool IsWeightType(int32_t type);

}  // namespace switchyard
