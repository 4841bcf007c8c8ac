// Quantized weights on a GPU: their codes in the one form that kernels read, or what they stand for.
#pragma once
#include "../../weights/weight_ref.h"
#include "contents.h"

namespace switchyard::ops {

// Whether a quantized matrix can lie on a GPU as a cuda::CodedMatrix: rows of a multiple of 8 elements, whose
// groups are powers of two or the whole matrix, and columns of a group side by side. All that is published
// but GPTQ with act-order.
bool CanKeepCodes(const WeightRef& ref);

// The matrix as a cuda::CodedMatrix, rows of outputs whichever way it is stored. CanKeepCodes holds.
Contents CodedContents(const WeightRef& ref);

// Its elements, row after row, in the session's element type.
Contents ExpandedContents(const WeightRef& ref, DType dtype);

}  // namespace switchyard::ops
