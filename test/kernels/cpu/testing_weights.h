// Weight matrices for tests, with their values in double precision.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../../../kernels/common/float_types.h"
#include "../../../kernels/cpu/widen.h"
#include "testing.h"

namespace switchyard::cpu {

inline constexpr ExpertsImplementation kAllImplementations[] = {
    ExpertsImplementation::kEager, ExpertsImplementation::kBatchedMm, ExpertsImplementation::kGroupedMm};

// A weight matrix in memory of exactly its size, at an address `shift` bytes off, with its values in double.
class Weights {
 public:
  Weights(Random& random, int64_t rows, int64_t cols, DType dtype, bool transposed, float scale,
          int shift = 0, int64_t extra_stride = 0) {
    const int64_t inner = transposed ? rows : cols;
    const int64_t outer = transposed ? cols : rows;
    const int64_t stride = inner + extra_stride;
    const int64_t elements = (outer - 1) * stride + inner;
    const int64_t size = DTypeSize(dtype);
    bytes_.reset(new char[static_cast<size_t>(elements * size + shift)]);
    matrix_ = {bytes_.get() + shift, dtype, rows, cols, stride, transposed};
    for (int64_t i = 0; i < elements; ++i)
      Put(bytes_.get() + shift + i * size, dtype, random.Normal() * scale);
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t k = 0; k < cols; ++k) {
        const int64_t i = transposed ? k * stride + n : n * stride + k;
        values_.push_back(LoadElement(bytes_.get() + shift + i * size, dtype));
      }
    }
  }

  const WeightMatrix& matrix() const { return matrix_; }
  double At(int64_t n, int64_t k) const { return values_[static_cast<size_t>(n * matrix_.cols + k)]; }
  bool Rounds(Precision precision) const {
    return precision == Precision::kBFloat16 && matrix_.dtype == DType::kBFloat16;
  }

  // Row n times x, activations rounded as the precision says; `magnitude` gets the sum of absolute terms.
  double Dot(int64_t n, const double* x, Precision precision, double* magnitude = nullptr) const {
    double sum = 0.0;
    double absolute = 0.0;
    for (int64_t k = 0; k < matrix_.cols; ++k) {
      const double value = Rounds(precision) ? RoundToBf16(static_cast<float>(x[k])) : x[k];
      sum += At(n, k) * value;
      absolute += std::fabs(At(n, k) * value);
    }
    if (magnitude != nullptr) *magnitude = absolute;
    return sum;
  }

 private:
  static void Put(char* at, DType dtype, float value) {
    if (dtype == DType::kFloat32) {
      std::memcpy(at, &value, sizeof(value));
    } else {
      const uint16_t bits = dtype == DType::kBFloat16 ? FloatToBf16(value) : FloatToFp16(value);
      std::memcpy(at, &bits, sizeof(bits));
    }
  }

  std::unique_ptr<char[]> bytes_;
  WeightMatrix matrix_;
  std::vector<float> values_;
};

inline std::vector<double> Doubles(const float* x, int64_t n) { return std::vector<double>(x, x + n); }

inline std::string Describe(const char* what, const WeightMatrix& w, int64_t tokens, Precision precision,
                            int threads) {
  char text[256];
  std::snprintf(text, sizeof(text), "%s [%s] %lld tokens, [%lld, %lld] dtype %d%s, precision %d, %d threads",
                what, IsaName(), static_cast<long long>(tokens), static_cast<long long>(w.rows),
                static_cast<long long>(w.cols), static_cast<int>(w.dtype), w.transposed ? " transposed" : "",
                static_cast<int>(precision), threads);
  return text;
}

}  // namespace switchyard::cpu
