// Quantized weights for tests: random codes, scales and all else, in memory of exactly its size, with the
// values that the specification (common/quantized_elements.h) gives them.
#pragma once
#include <cstring>
#include <string>
#include <vector>

#include "../../../kernels/common/quantized_elements.h"
#include "testing_weights.h"

namespace switchyard::cpu {

// A way to store weights. Groups are cut down to the matrix.
struct Storage {
  const char* name;
  CodeType type;
  int bits;
  CodeOrder order;
  int64_t group_rows, group_cols;  // rows 0: groups that cross rows
  ScaleType scale_type;
  bool grid_transposed = false;
  int zero_order = -1;  // a ZeroOrder; -1: a constant in the middle for kUint, none for others
  bool biases = false;
  bool shuffled = false;    // columns of a group lie anywhere
  bool transposed = false;  // the matrix lies transposed, one of several
};

inline const std::vector<Storage>& AllStorages() {
  using enum CodeOrder;
  using T = CodeType;
  using S = ScaleType;
  static const std::vector<Storage> storages = {
      {"fp8 in blocks", T::kE4m3, 8, kRows, 128, 128, S::kBFloat16},
      {"fp8 in small blocks", T::kE4m3, 8, kRows, 12, 20, S::kFloat32},
      {"fp8 by row", T::kE4m3, 8, kRows, 1, 1 << 20, S::kBFloat16},
      {"fp8 of one scale", T::kE4m3, 8, kRows, 1 << 20, 1 << 20, S::kFloat32},
      {"fp8 in blocks, transposed", T::kE4m3, 8, kRows, 128, 128, S::kBFloat16, false, -1, false, false,
       true},
      {"fp8 in small blocks, transposed", T::kE4m3, 8, kRows, 9, 7, S::kFloat16, false, -1, false, false,
       true},
      {"int8 by row", T::kInt, 8, kRows, 1, 1 << 20, S::kBFloat16},
      {"int8 in groups", T::kInt, 8, kRows, 1, 32, S::kFloat16},
      {"int4", T::kUint, 4, kRows, 1, 32, S::kBFloat16},
      {"int4 in odd groups", T::kUint, 4, kRows, 1, 7, S::kFloat32},
      {"int4 with zero points", T::kUint, 4, kRows, 1, 32, S::kFloat16, false,
       static_cast<int>(ZeroOrder::kRows)},
      {"int4 with column groups", T::kUint, 4, kRows, 1, 16, S::kFloat16, false, -1, false, true},
      {"int8 packed", T::kUint, 8, kRows, 1, 128, S::kFloat16},
      {"gptq int4", T::kUint, 4, kColumns, 1, 128, S::kFloat16, true},
      {"gptq int4 with zero points", T::kUint, 4, kColumns, 1, 32, S::kFloat16, true,
       static_cast<int>(ZeroOrder::kColumns)},
      {"gptq int4 with act order", T::kUint, 4, kColumns, 1, 32, S::kFloat16, true, -1, false, true},
      {"gptq int8", T::kUint, 8, kColumns, 1, 64, S::kFloat16, true, static_cast<int>(ZeroOrder::kColumns)},
      {"gptq int2", T::kUint, 2, kColumns, 1, 64, S::kFloat16, true},
      {"awq", T::kUint, 4, kAwq, 1, 32, S::kFloat16, true, static_cast<int>(ZeroOrder::kAwq)},
      {"mlx int4", T::kUint, 4, kRows, 1, 64, S::kBFloat16, false, -1, true},
      {"mlx int8", T::kUint, 8, kRows, 1, 64, S::kBFloat16, false, -1, true},
      {"mlx int6", T::kUint, 6, kRows, 1, 64, S::kFloat16, false, -1, true},
      {"mlx int3", T::kUint, 3, kRows, 1, 32, S::kFloat32, false, -1, true},
      {"nvfp4", T::kE2m1, 4, kRows, 1, 16, S::kE4m3},
      {"mxfp4", T::kE2m1, 4, kRows, 1, 32, S::kExponent},
      {"nf4", T::kTable, 4, kRowsHighFirst, 0, 64, S::kTable},
      {"nf4 of one scale type", T::kTable, 4, kRowsHighFirst, 0, 64, S::kFloat32},
  };
  return storages;
}

class QuantizedWeights {
 public:
  // A matrix [rows, cols], rounded up to what words of the storage hold.
  QuantizedWeights(Random& random, const Storage& storage, int64_t rows, int64_t cols, float scale)
      : random_(random), scale_(scale) {
    if (storage.order == CodeOrder::kAwq) rows = (rows + 7) / 8 * 8;
    if (storage.order == CodeOrder::kColumns) cols = (cols + 15) / 16 * 16;
    q_.rows = storage.transposed ? cols + 3 : rows;
    q_.cols = storage.transposed ? rows + 5 : cols;
    q_.matrices = storage.transposed ? 2 : 1;
    q_.type = storage.type;
    q_.bits = storage.bits;
    q_.order = storage.order;
    q_.group_rows = std::min(storage.group_rows, q_.rows);
    q_.group_cols = storage.group_rows == 0 ? storage.group_cols : std::min(storage.group_cols, q_.cols);
    MakeCodes();
    MakeScales(storage);
    MakeZeros(storage);
    if (storage.shuffled) MakeColumnGroups();
    matrix_ = {.rows = rows, .cols = cols, .transposed = storage.transposed};
    matrix_.quantized = &q_;
    if (storage.transposed) matrix_.matrix = 1, matrix_.first_row = 3, matrix_.first_col = 5;
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t k = 0; k < cols; ++k) {
        values_.push_back(storage.transposed ? QuantizedElement(q_, 1, k + 3, n + 5)
                                             : QuantizedElement(q_, 0, n, k));
      }
    }
  }
  QuantizedWeights(const QuantizedWeights&) = delete;
  QuantizedWeights& operator=(const QuantizedWeights&) = delete;

  const WeightMatrix& matrix() const { return matrix_; }
  const QuantizedTensor& tensor() const { return q_; }
  float Value(int64_t n, int64_t k) const { return values_[static_cast<size_t>(n * matrix_.cols + k)]; }
  // As products in a precision see it.
  double At(int64_t n, int64_t k, Precision precision) const {
    return precision == Precision::kBFloat16 ? RoundToBf16(Value(n, k)) : Value(n, k);
  }

  double Dot(int64_t n, const double* x, Precision precision, double* magnitude = nullptr) const {
    return Dot(n, x, precision, precision, magnitude);
  }
  // The same where weights are rounded otherwise than activations.
  double Dot(int64_t n, const double* x, Precision precision, Precision weight_precision,
             double* magnitude) const {
    double sum = 0.0;
    double absolute = 0.0;
    for (int64_t k = 0; k < matrix_.cols; ++k) {
      const double value = precision == Precision::kBFloat16 ? RoundToBf16(static_cast<float>(x[k])) : x[k];
      sum += At(n, k, weight_precision) * value;
      absolute += std::fabs(At(n, k, weight_precision) * value);
    }
    if (magnitude != nullptr) *magnitude = absolute;
    return sum;
  }

 private:
  // Memory of exactly this size, one byte off any alignment.
  std::byte* Take(int64_t bytes) {
    memory_.emplace_back(new std::byte[static_cast<size_t>(bytes) + 1]);
    return memory_.back().get() + 1;
  }

  const std::byte* RandomBytes(int64_t bytes) {
    std::byte* data = Take(bytes);
    for (int64_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(random_.Int(0, 255));
    return data;
  }

  const std::byte* Floats(int64_t count, DType type, const auto& value) {
    std::byte* data = Take(count * DTypeSize(type));
    for (int64_t i = 0; i < count; ++i) {
      const float number = value();
      const uint16_t half = type == DType::kBFloat16 ? FloatToBf16(number) : FloatToFp16(number);
      std::memcpy(data + i * DTypeSize(type),
                  type == DType::kFloat32 ? static_cast<const void*>(&number) : &half,
                  static_cast<size_t>(DTypeSize(type)));
    }
    return data;
  }

  void MakeCodes() {
    const int64_t rows = q_.matrices * q_.rows;
    q_.row_bytes = (q_.cols * q_.bits + 7) / 8;
    int64_t bytes = rows * q_.row_bytes;
    if (q_.order == CodeOrder::kRowsHighFirst) bytes = (rows * q_.cols + 1) / 2;
    auto* codes = const_cast<std::byte*>(RandomBytes(bytes));
    // No NaN among them.
    for (int64_t i = 0; q_.type == CodeType::kE4m3 && i < bytes; ++i) {
      if ((codes[i] & std::byte{0x7f}) == std::byte{0x7f}) codes[i] = std::byte{1};
    }
    q_.codes = codes;
    if (q_.type == CodeType::kTable)
      q_.values = Floats(16, DType::kFloat32, [&] { return random_.Normal(); });
  }

  void MakeScales(const Storage& storage) {
    int64_t count = (q_.matrices * q_.rows * q_.cols + q_.group_cols - 1) / q_.group_cols;
    if (q_.flat() && q_.cols % q_.group_cols == 0) q_.group_rows = 1;
    if (!q_.flat()) {
      const int64_t grid_rows = (q_.rows + q_.group_rows - 1) / q_.group_rows;
      q_.row_step = storage.grid_transposed ? 1 : q_.col_groups();
      q_.col_step = storage.grid_transposed ? grid_rows : 1;
      q_.matrix_step = grid_rows * q_.col_groups();
      count = q_.matrices * q_.matrix_step;
    }
    // Codes of every type are a few units large, those of fp8 some hundred.
    const float unit = scale_ / (q_.type == CodeType::kE4m3 ? 100.0f : q_.bits > 4 ? 64.0f : 4.0f);
    const auto number = [&] { return unit * (0.5f + static_cast<float>(random_.Int(0, 100)) / 100.0f); };
    q_.scale_type = storage.scale_type;
    switch (storage.scale_type) {
      case ScaleType::kFloat32:
        q_.scales = Floats(count, DType::kFloat32, number);
        break;
      case ScaleType::kFloat16:
        q_.scales = Floats(count, DType::kFloat16, number);
        break;
      case ScaleType::kBFloat16:
        q_.scales = Floats(count, DType::kBFloat16, number);
        break;
      case ScaleType::kE4m3:
      case ScaleType::kExponent: {
        std::byte* scales = Take(count);
        const int64_t least = storage.scale_type == ScaleType::kE4m3 ? 0x20 : 120;
        for (int64_t i = 0; i < count; ++i)
          scales[i] = static_cast<std::byte>(random_.Int(least, least + 16));
        q_.scales = scales;
        if (storage.scale_type == ScaleType::kE4m3)
          q_.divisor = Floats(1, DType::kFloat32, [] { return 3.7f; });
        if (storage.scale_type == ScaleType::kExponent) q_.multiply = unit * 16.0f;
        break;
      }
      case ScaleType::kTable:
        q_.scales = RandomBytes(count);
        q_.table_group = 5;
        q_.table_values = Floats(256, DType::kFloat32, [&] { return random_.Normal(); });
        q_.table_scales = Floats((count + 4) / 5, DType::kFloat32, number);
        q_.table_offset = 0.3f * unit;
        break;
    }
    q_.bias_type = storage.scale_type == ScaleType::kFloat16 ? DType::kFloat16 : DType::kBFloat16;
    if (storage.biases) q_.biases = Floats(count, q_.bias_type, [&] { return -8.0f * number(); });
  }

  void MakeZeros(const Storage& storage) {
    const bool is_centred = q_.type == CodeType::kUint && !storage.biases;
    if (is_centred) q_.zero = 1 << (q_.bits - 1);
    if (storage.zero_order < 0) return;
    const int64_t per_word = 32 / q_.bits;
    q_.zero_order = static_cast<ZeroOrder>(storage.zero_order);
    q_.zeros = RandomBytes((q_.rows + per_word - 1) / per_word * q_.col_groups() * 4);
    q_.zeros_less_one = random_.Int(0, 1) == 1;
  }

  void MakeColumnGroups() {
    std::byte* groups = Take(q_.cols * 4);
    for (int64_t c = 0; c < q_.cols; ++c) {
      const auto group = static_cast<int32_t>(random_.Int(0, q_.col_groups() - 1));
      std::memcpy(groups + c * 4, &group, 4);
    }
    q_.column_groups = groups;
  }

  Random& random_;
  float scale_;
  std::vector<std::unique_ptr<std::byte[]>> memory_;
  QuantizedTensor q_;
  WeightMatrix matrix_;
  std::vector<float> values_;
};

}  // namespace switchyard::cpu
