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

// Scales [first, first + count * step), before they are multiplied and divided by what all share.
void ReadStoredScales(const KernelTable& table, const QuantizedTensor& q, int64_t first, int64_t step,
                      int64_t count, float* out) {
  switch (q.scale_type) {
    case ScaleType::kFloat32:
      return ReadFloats(table, q.scales, DType::kFloat32, first, step, count, out);
    case ScaleType::kFloat16:
      return ReadFloats(table, q.scales, DType::kFloat16, first, step, count, out);
    case ScaleType::kBFloat16:
      return ReadFloats(table, q.scales, DType::kBFloat16, first, step, count, out);
    case ScaleType::kE4m3:
    case ScaleType::kExponent: {
      const std::array<float, 256>& values = ValuesOf(q.scale_type);
      for (int64_t i = 0; i < count; ++i) out[i] = values[static_cast<uint8_t>(q.scales[first + i * step])];
      return;
    }
    case ScaleType::kTable:
      for (int64_t i = 0; i < count; ++i) out[i] = StoredScale(q, first + i * step);
      return;
  }
}

void ReadFinalScales(const KernelTable& table, const QuantizedTensor& q, int64_t first, int64_t step,
                     int64_t count, float* out) {
  ReadStoredScales(table, q, first, step, count, out);
  const float multiplier = CommonMultiplier(q);
  const float divisor = CommonDivisor(q);
  if (multiplier == 1.0f && divisor == 1.0f) return;
  for (int64_t i = 0; i < count; ++i) out[i] = out[i] * multiplier / divisor;
}

int64_t StoredScaleBytes(ScaleType type) {
  switch (type) {
    case ScaleType::kFloat32:
      return 4;
    case ScaleType::kFloat16:
    case ScaleType::kBFloat16:
      return 2;
    default:
      return 1;
  }
}

// Scales [first, last].
void FetchLines(const QuantizedTensor& q, int64_t first, int64_t last) {
  const int64_t size = StoredScaleBytes(q.scale_type);
  const std::byte* end = q.scales + (last + 1) * size;
  for (const std::byte* at = q.scales + first * size; at < end; at += 64) __builtin_prefetch(at);
}

void ReadRowOffsets(const KernelTable& table, const QuantizedTensor& q, int64_t matrix, int64_t row,
                    int64_t group0, int64_t group1, const RowGroups& out) {
  const int64_t count = group1 - group0;
  if (q.zeros == nullptr) {
    std::fill_n(out.zeros, count, static_cast<float>(q.zero));
  } else {
    for (int64_t i = 0; i < count; ++i) out.zeros[i] = ZeroAt(q, row, group0 + i);
  }
  if (out.biases == nullptr) return;
  const int64_t first = ScaleIndex(q, matrix, row, group0);
  ReadFloats(table, q.biases, q.bias_type, first, q.col_step, count, out.biases);
}

// Rows whose scales are brought from across at a time.
constexpr int64_t kRowsAcross = 16;

}  // namespace

RowGroups RowGroups::At(char* memory, const QuantizedTensor& tensor, int64_t groups) {
  float* scales = reinterpret_cast<float*>(memory);
  return {scales, scales + groups, tensor.biases != nullptr ? scales + 2 * groups : nullptr};
}

void ReadRowScales(const KernelTable& table, const QuantizedTensor& q, int64_t matrix, int64_t row,
                   int64_t group0, int64_t group1, float* scales) {
  ReadFinalScales(table, q, ScaleIndex(q, matrix, row, group0), q.col_step, group1 - group0, scales);
}

void ReadGroupScales(const KernelTable& table, const QuantizedTensor& q, int64_t matrix, int64_t group,
                     int64_t row0, int64_t row1, float* scales) {
  ReadFinalScales(table, q, ScaleIndex(q, matrix, row0, group), 1, row1 - row0, scales);
}

void ReadScales(const KernelTable& table, const QuantizedTensor& q, int64_t matrix, int64_t row0,
                int64_t row1, float* scales) {
  const int64_t groups = q.col_groups();
  if (q.group_rows == 1 && q.row_step == groups && (q.col_step == 1 || groups == 1)) {
    // Rows of scales one after the other.
    const int64_t count = (row1 - row0) * groups;
    return ReadFinalScales(table, q, ScaleIndex(q, matrix, row0, 0), 1, count, scales);
  }
  if (!ScalesLieAcross(q)) {
    for (int64_t r = row0; r < row1; ++r)
      ReadRowScales(table, q, matrix, r, 0, groups, scales + (r - row0) * groups);
    return;
  }
  float across[kRowsAcross];
  for (int64_t r = row0; r < row1; r += kRowsAcross) {
    const int64_t count = std::min(kRowsAcross, row1 - r);
    for (int64_t g = 0; g < groups; ++g) {
      ReadGroupScales(table, q, matrix, g, r, r + count, across);
      for (int64_t i = 0; i < count; ++i) scales[(r - row0 + i) * groups + g] = across[i];
    }
  }
}

void FetchScales(const QuantizedTensor& q, int64_t matrix, int64_t row0, int64_t row1) {
  row1 = std::min(row1, q.rows);
  if (row0 >= row1) return;
  const int64_t groups = q.col_groups();
  if (q.col_step == 1 || groups == 1) {
    return FetchLines(q, ScaleIndex(q, matrix, row0, 0), ScaleIndex(q, matrix, row1 - 1, groups - 1));
  }
  for (int64_t g = 0; g < groups; ++g)
    FetchLines(q, ScaleIndex(q, matrix, row0, g), ScaleIndex(q, matrix, row1 - 1, g));
}

void ReadRowGroups(const KernelTable& table, const QuantizedTensor& q, int64_t matrix, int64_t row,
                   int64_t group0, int64_t group1, const RowGroups& out) {
  ReadRowScales(table, q, matrix, row, group0, group1, out.scales);
  ReadRowOffsets(table, q, matrix, row, group0, group1, out);
}

void ReadGroups(const KernelTable& table, const QuantizedTensor& q, int64_t matrix, int64_t row0,
                int64_t row1, const RowGroups& out) {
  const int64_t groups = q.col_groups();
  ReadScales(table, q, matrix, row0, row1, out.scales);
  if (q.zeros == nullptr && q.biases == nullptr) return;
  for (int64_t r = row0; r < row1; ++r) {
    const int64_t at = (r - row0) * groups;
    ReadRowOffsets(table, q, matrix, r, 0, groups,
                   {nullptr, out.zeros + at, out.biases != nullptr ? out.biases + at : nullptr});
  }
}

}  // namespace switchyard::cpu
