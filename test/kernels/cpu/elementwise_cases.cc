// Kernels that work value by value: conversions, norms, rotation, transposes, embeddings.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../../../kernels/common/float_types.h"
#include "../../../kernels/cpu/widen.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing_weights.h"

namespace switchyard::cpu {
namespace {

void FloatTypes() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const int exponent = (half >> 10) & 31;
    const int fraction = half & 1023;
    double expected = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) expected = fraction == 0 ? INFINITY : NAN;
    if (half & 0x8000) expected = -expected;
    const float wide = Fp16ToFloat(half);
    if (std::isnan(expected) ? !std::isnan(wide) : wide != static_cast<float>(expected))
      Fail("fp16 0x%04x widens to %g", bits, static_cast<double>(wide));
    if (!std::isnan(wide) && FloatToFp16(wide) != half) Fail("fp16 0x%04x does not survive", bits);
    const float bf16 = Bf16ToFloat(half);
    if (!std::isnan(bf16) && FloatToBf16(bf16) != half) Fail("bf16 0x%04x does not survive", bits);
    if (std::isnan(bf16) && !std::isnan(RoundToBf16(bf16))) Fail("bf16 NaN 0x%04x is lost", bits);
  }
  // Halfway cases go to even.
  if (FloatToBf16(FloatFromBits(0x3f808000)) != 0x3f80) Fail("bf16 rounds 1 + half an ulp up");
  if (FloatToBf16(FloatFromBits(0x3f818000)) != 0x3f82) Fail("bf16 rounds an odd halfway case down");
  if (FloatToFp16(65520.0f) != 0x7c00) Fail("fp16 overflow is not infinite");
  if (FloatToFp16(std::ldexp(1.0f, -25)) != 0) Fail("half of the smallest fp16 does not round to even");
  if (FloatToFp16(std::ldexp(1.5f, -25)) != 1) Fail("fp16 subnormal rounding");
}

void ElementwiseKernels() {
  Random random(10);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    const KernelTable& table = Kernels();
    for (const int64_t n : {1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 1001}) {
      std::vector<float> x = random.Normals(n);
      std::vector<float> up = random.Normals(n);
      for (float& value : x) value *= 20.0f;
      if (n > 15) x[3] = 200.0f, x[7] = -200.0f, x[11] = -87.5f, x[14] = 0.0f;
      Output silu(n), exponentials(n), rounded(n), scaled(n);
      table.silu_mul(x.data(), up.data(), n, silu.data());
      const float top = *std::max_element(x.begin(), x.end());
      const float sum = table.exp_sum(x.data(), 0.5f, 0.5f * top, n, exponentials.data());
      if (table.max(x.data(), n) != top) Fail("[%s] largest of %lld", isa, static_cast<long long>(n));
      table.round_bf16(x.data(), n, rounded.data());
      table.scale_add(x.data(), 0.5f, n, scaled.data(), false);
      table.scale_add(up.data(), -2.0f, n, scaled.data(), true);
      double expected_sum = 0.0;
      for (int64_t i = 0; i < n; ++i) {
        const double v = x[static_cast<size_t>(i)];
        const double u = up[static_cast<size_t>(i)];
        const double silu_expected = v / (1.0 + std::exp(-v)) * u;
        const double exp_expected =
            std::exp(static_cast<double>(0.5f * x[static_cast<size_t>(i)] - 0.5f * top));
        expected_sum += exp_expected;
        if (!(std::fabs(silu[i] - silu_expected) <= 1e-6 * std::fabs(silu_expected) + 1e-30))
          Fail("[%s] silu(%g) * %g is %g", isa, v, u, static_cast<double>(silu[i]));
        if (!(std::fabs(exponentials[i] - exp_expected) <= 1e-6 * exp_expected + 1e-37))
          Fail("[%s] exp(%g) is %g", isa, v - top, static_cast<double>(exponentials[i]));
        if (rounded[i] != RoundToBf16(x[static_cast<size_t>(i)])) Fail("[%s] bf16 rounding of %g", isa, v);
        if (!(std::fabs(scaled[i] - (0.5 * v - 2.0 * u)) <= 1e-5)) Fail("[%s] scale_add", isa);
      }
      if (!(std::fabs(sum - expected_sum) <= 1e-6 * expected_sum)) Fail("[%s] sum of exponentials", isa);
      for (const Output* output : {&silu, &exponentials, &rounded, &scaled}) output->CheckGuards(isa);
    }
  }
}

void NormAndRotation() {
  Random random(17);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const int64_t n : {2, 6, 10, 16, 32, 34, 64, 80, 128, 254}) {
      for (const bool normed : {false, true}) {
        const size_t pairs = static_cast<size_t>(random.Int(0, 1) == 0 ? n / 2 : random.Int(0, n / 2));
        const std::vector<float> x = random.Normals(n), norm = random.Normals(n);
        std::vector<float> cosines, sines;
        for (const float angle : random.Normals(static_cast<int64_t>(pairs))) {
          cosines.push_back(std::cos(angle));
          sines.push_back(std::sin(angle));
        }
        Output out(n);
        Kernels().norm_rotate(x.data(), normed ? norm.data() : nullptr, 0.01f, cosines.data(), sines.data(),
                              static_cast<int64_t>(pairs), n, out.data());
        double squares = 0.0;
        for (const float v : x) squares += static_cast<double>(v) * v;
        const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + 0.01);
        const auto value = [&](size_t i) { return normed ? x[i] * scale * norm[i] : x[i]; };
        for (size_t i = 0; i < pairs; ++i) {
          const double a = value(i), b = value(pairs + i);
          const double first = a * cosines[i] - b * sines[i], second = b * cosines[i] + a * sines[i];
          if (!(std::fabs(out[static_cast<int64_t>(i)] - first) <= 1e-5) ||
              !(std::fabs(out[static_cast<int64_t>(pairs + i)] - second) <= 1e-5))
            Fail("[%s] pair %zu of a head of %lld", isa, i, static_cast<long long>(n));
        }
        for (size_t i = 2 * pairs; i < x.size(); ++i) {
          if (!(std::fabs(out[static_cast<int64_t>(i)] - value(i)) <= 1e-5))
            Fail("[%s] value %zu of a head of %lld, which is not rotated", isa, i, static_cast<long long>(n));
        }
        out.CheckGuards(isa);
      }
    }
  }
}

// Exactly as one by one, special values included; what was narrowed comes back.
void Narrowing() {
  Random random(18);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float special[] = {kInfinity,     -kInfinity, std::nanf(""), 0.0f,        -0.0f,
                           65519.0f,      65520.0f,   -1e38f,        3e-8f,       5.9604645e-8f,
                           2.9802322e-8f, 6.1e-5f,    1e-40f,        1.00390625f, 1.01171875f};
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const int64_t n : {1, 3, 7, 8, 15, 16, 17, 31, 33, 64, 129}) {
      std::vector<float> x = random.Normals(n);
      for (int64_t i = 0; i < n; i += 2) x[static_cast<size_t>(i)] = special[random.Int(0, 14)];
      for (const DType dtype : kAllDTypes) {
        const int64_t size = DTypeSize(dtype);
        std::vector<char> narrow(static_cast<size_t>(n * size + 1), 'x');
        Kernels().narrow[DTypeIndex(dtype)](x.data(), n, narrow.data());
        if (narrow.back() != 'x')
          Fail("[%s] narrowing %lld values wrote behind them", isa, static_cast<long long>(n));
        for (int64_t i = 0; i < n; ++i) {
          const float value = x[static_cast<size_t>(i)];
          const float expected = dtype == DType::kFloat32    ? value
                                 : dtype == DType::kBFloat16 ? RoundToBf16(value)
                                                             : Fp16ToFloat(FloatToFp16(value));
          const float actual = LoadElement(narrow.data() + i * size, dtype);
          const bool same =
              std::isnan(expected) ? std::isnan(actual) : std::memcmp(&actual, &expected, sizeof(float)) == 0;
          if (!same)
            Fail("[%s] dtype %d of %g is %g, expected %g", isa, static_cast<int>(dtype),
                 static_cast<double>(value), static_cast<double>(actual), static_cast<double>(expected));
        }
      }
    }
  }
}

void Transposes() {
  Random random(11);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (int round = 0; round < 30; ++round) {
      const int64_t rows = random.Int(1, 80);
      const int64_t columns = random.Int(1, 80);
      for (const int64_t size : {2, 4}) {
        const int64_t stride = columns * size + random.Int(0, 5);
        const int64_t dst_stride = (rows + random.Int(0, 9)) * size;
        std::unique_ptr<char[]> src(new char[static_cast<size_t>(stride * (rows - 1) + columns * size)]);
        std::unique_ptr<char[]> dst(new char[static_cast<size_t>(dst_stride * (columns - 1) + rows * size)]);
        for (int64_t i = 0; i < stride * (rows - 1) + columns * size; ++i)
          src[static_cast<size_t>(i)] = static_cast<char>(random.Int(0, 255));
        (size == 2 ? Kernels().transpose16 : Kernels().transpose32)(src.get(), stride, rows, columns,
                                                                    dst.get(), dst_stride);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < columns; ++c) {
            if (std::memcmp(&src[static_cast<size_t>(r * stride + c * size)],
                            &dst[static_cast<size_t>(c * dst_stride + r * size)],
                            static_cast<size_t>(size)) != 0) {
              Fail("[%s] transpose of [%lld, %lld] elements of %lld bytes at (%lld, %lld)", isa,
                   static_cast<long long>(rows), static_cast<long long>(columns),
                   static_cast<long long>(size), static_cast<long long>(r), static_cast<long long>(c));
              r = rows;
              break;
            }
          }
        }
      }
    }
  }
}

void Embeddings() {
  Random random(12);
  for (const char* isa : Isas()) {
    SelectIsa(isa);
    for (const DType dtype : kAllDTypes) {
      for (const bool transposed : {false, true}) {
        const int64_t cols = random.Int(1, 300);
        const Weights table(random, 50, cols, dtype, transposed, 1.0f, 3, 2);
        const int64_t count = dtype == DType::kFloat32 ? 400 : 7;
        std::vector<int64_t> ids;
        for (int64_t i = 0; i < count; ++i) ids.push_back(random.Int(0, 49));
        Output out(count * cols);
        TestPool pool(3);
        const WeightMatrix matrix = table.matrix();
        EmbeddingRows(&matrix, ids.data(), count, out.data(), pool);
        out.CheckGuards("EmbeddingRows");
        for (int64_t i = 0; i < count * cols; ++i) {
          if (out[i] != table.At(ids[static_cast<size_t>(i / cols)], i % cols)) {
            Fail("[%s] embedding value %lld of dtype %d", isa, static_cast<long long>(i),
                 static_cast<int>(dtype));
            break;
          }
        }
      }
    }
  }
}

}  // namespace

std::vector<Group> ElementwiseGroups() {
  return {
      {"float types round to nearest even and survive widening", FloatTypes},
      {"element-wise kernels match double precision", ElementwiseKernels},
      {"norm and rotation of a head match double precision", NormAndRotation},
      {"narrowing rounds as one by one", Narrowing},
      {"transposes move every element", Transposes},
      {"embedding rows are widened exactly", Embeddings},
  };
}

}  // namespace switchyard::cpu
