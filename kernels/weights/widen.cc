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

void WidenRow(const WeightRef& matrix, int64_t row, float* out) {
  const StoredTensor& tensor = *matrix.values;
  const DType type = matrix.dtype();
  for (int64_t col = 0; col < matrix.cols; col++) {
    const int64_t r = matrix.first_row + (matrix.transposed ? col : row);
    const int64_t c = matrix.first_col + (matrix.transposed ? row : col);
    if (const QuantizedTensor* codes = tensor.quantized.get(); codes != nullptr) {
      out[col] = QuantizedElement(*codes, r / codes->rows, r % codes->rows, c);
    } else {
      out[col] = LoadElement(tensor.data + (r * matrix.stride + c) * DTypeSize(type), type);
    }
  }
}

bool IsWeight(const StoredTensor& tensor) { return tensor.quantized != nullptr || IsWeightType(tensor.type); }

bool IsWeightType(int32_t type) {
  return type == onnx::kFloat || type == onnx::kFloat16 || type == onnx::kBFloat16;
}

}  // namespace switchyard
