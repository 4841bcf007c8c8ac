#include "row_groups.h"

#include <algorithm>
#include <array>

#include "../../common/quantized_elements.h"

namespace switchyard::cpu {
namespace {

const std::array<float, 256>& ValuesOf(ScaleType type) {
  const auto fill = [](float (*value)(uint8_t)) {
    std::array<float, 256> values;
    for (size_t i = 0; i < values.size(); ++i) values[i] = value(static_cast<uint8_t>(i));
    return values;
  };
  static const std::array<float, 256> e4m3 = fill(E4m3ToFloat);
  static const std::array<float, 256> exponents = fill(ExponentToFloat);
  return type == ScaleType::kE4m3 ? e4m3 : exponents;
}

// Numbers [first, first + count * step) of a tensor of floats.
void ReadFloats(const KernelTable& table, const std::byte* data, DType type, int64_t first, int64_t step,
                int64_t count, float* out) {
  const int64_t size = DTypeSize(type);
  if (step == 1) {
    table.widen[DTypeIndex(type)](reinterpret_cast<const char*>(data) + first * size, count, out);
    return;
  }
  for (int64_t i = 0; i < count; ++i) out[i] = LoadElement(data + (first + i * step) * size, type);
}

void ReadStoredScales(const KernelTable& table, const QuantizedTensor& q, int64_t first, int64_t count,
                      float* out) {
  switch (q.scale_type) {
    case ScaleType::kFloat32:
      return ReadFloats(table, q.scales, DType::kFloat32, first, q.col_step, count, out);
    case ScaleType::kFloat16:
      return ReadFloats(table, q.scales, DType::kFloat16, first, q.col_step, count, out);
    case ScaleType::kBFloat16:
      return ReadFloats(table, q.scales, DType::kBFloat16, first, q.col_step, count, out);
    case ScaleType::kE4m3:
    case ScaleType::kExponent: {
      const std::array<float, 256>& values = ValuesOf(q.scale_type);
      for (int64_t i = 0; i < count; ++i)
        out[i] = values[static_cast<uint8_t>(q.scales[first + i * q.col_step])];
      return;
    }
    case ScaleType::kTable:
      for (int64_t i = 0; i < count; ++i) out[i] = StoredScale(q, first + i * q.col_step);
      return;
  }
}

}  // namespace

RowGroups RowGroups::At(char* memory, const QuantizedTensor& tensor, int64_t groups) {
  float* scales = reinterpret_cast<float*>(memory);
  return {scales, scales + groups, tensor.biases != nullptr ? scales + 2 * groups : nullptr};
}

void ReadRowScales(const KernelTable& table, const QuantizedTensor& q, int64_t matrix, int64_t row,
                   int64_t group0, int64_t group1, float* scales) {
  const int64_t count = group1 - group0;
  ReadStoredScales(table, q, ScaleIndex(q, matrix, row, group0), count, scales);
  const float multiplier = CommonMultiplier(q);
  const float divisor = CommonDivisor(q);
  if (multiplier != 1.0f || divisor != 1.0f) {
    for (int64_t i = 0; i < count; ++i) scales[i] = scales[i] * multiplier / divisor;
  }
}

void ReadRowGroups(const KernelTable& table, const QuantizedTensor& q, int64_t matrix, int64_t row,
                   int64_t group0, int64_t group1, const RowGroups& out) {
  const int64_t count = group1 - group0;
  ReadRowScales(table, q, matrix, row, group0, group1, out.scales);
  if (q.zeros == nullptr) {
    std::fill_n(out.zeros, count, static_cast<float>(q.zero));
  } else {
    for (int64_t i = 0; i < count; ++i) out.zeros[i] = ZeroAt(q, row, group0 + i);
  }
  if (q.biases != nullptr) {
    const int64_t first = ScaleIndex(q, matrix, row, group0);
    ReadFloats(table, q.biases, q.bias_type, first, q.col_step, count, out.biases);
  }
}

}  // namespace switchyard::cpu
