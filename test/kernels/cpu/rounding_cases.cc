// Rounding of float weights to codes.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "../../../kernels/common/float_types.h"
#include "../../../kernels/cpu/rounding.h"
#include "testing.h"

namespace switchyard::cpu {
namespace {

// Weights as they are in models: normal, some of a row far out, at a scale of its own.
std::vector<float> RandomRow(Random& random, int64_t cols) {
  std::vector<float> row = random.Normals(cols);
  const float scale = std::ldexp(1.0f, static_cast<int>(random.Int(-20, 4)));
  for (float& value : row) value *= random.Int(0, 40) == 0 ? 5.0f * scale : scale;
  return row;
}

void Int8Values() {
  Random random(21);
  for (int round = 0; round < 60; ++round) {
    const int64_t cols = random.Int(1, 300);
    const std::vector<float> row = RandomRow(random, cols);
    std::vector<int8_t> codes(row.size());
    float scale = 0.0f;
    if (!RoundToInt8(row.data(), cols, codes.data(), &scale)) Fail("a finite row is refused");
    float greatest = 0.0f;
    for (float value : row) greatest = std::max(greatest, std::fabs(value));
    if (scale != greatest / 127.0f) Fail("the scale is %g", static_cast<double>(scale));
    for (size_t i = 0; i < row.size(); ++i) {
      const double error = std::fabs(static_cast<double>(codes[i]) * scale - row[i]);
      if (!(error <= 0.5001 * scale))
        Fail("weight %zu is off by %g of scale %g", i, error, static_cast<double>(scale));
    }
  }
}

// One group of int4 as it can be read back.
struct Group4 {
  std::vector<int> codes;
  double scale, zero;
  double Value(size_t i) const { return (codes[i] - zero) * scale; }
};

Group4 ReadGroup(const uint8_t* codes, uint16_t scale, double zero, int64_t size) {
  Group4 group = {{}, Bf16ToFloat(scale), zero};
  for (int64_t i = 0; i < size; ++i) group.codes.push_back((codes[i / 2] >> (i % 2 == 0 ? 0 : 4)) & 0xf);
  return group;
}

double WeightedError(const float* x, int64_t size, bool weighted, const std::vector<double>& values) {
  double square = 0.0, error = 0.0;
  for (int64_t i = 0; i < size; ++i) square += static_cast<double>(x[i]) * x[i];
  for (int64_t i = 0; i < size; ++i) {
    const double weight =
        weighted ? std::sqrt(square / static_cast<double>(size) + static_cast<double>(x[i]) * x[i]) : 1.0;
    const double off = values[static_cast<size_t>(i)] - x[i];
    error += weight * off * off;
  }
  return error;
}

// The plain way: the range of the group laid over all codes.
std::vector<double> MinMax(const float* x, int64_t size, bool zero_points) {
  double low = 0.0, high = 0.0;
  for (int64_t i = 0; i < size; ++i) {
    low = std::min(low, static_cast<double>(x[i]));
    high = std::max(high, static_cast<double>(x[i]));
  }
  const double step = zero_points ? (high - low) / 15.0 : std::max(high, -low) / 7.0;
  const double scale = RoundToBf16(static_cast<float>(step));
  const double zero = zero_points ? std::clamp(std::nearbyint(-low / scale), 0.0, 15.0) : 8.0;
  std::vector<double> values;
  for (int64_t i = 0; i < size; ++i)
    values.push_back((std::clamp(std::nearbyint(x[i] / scale + zero), 0.0, 15.0) - zero) * scale);
  return values;
}

void Int4Values() {
  Random random(22);
  double searched = 0.0, plain = 0.0;
  for (int round = 0; round < 200; ++round) {
    const Int4Scheme scheme = {.group = 32 << random.Int(0, 2), .zero_points = round % 2 == 1};
    const int64_t groups = random.Int(1, 4);
    const int64_t cols = groups * scheme.group;
    const std::vector<float> row = RandomRow(random, cols);
    std::vector<uint8_t> codes(static_cast<size_t>(cols / 2)), zeros(static_cast<size_t>(groups), 8);
    std::vector<uint16_t> scales(static_cast<size_t>(groups));
    if (!RoundToInt4(row.data(), cols, scheme, codes.data(), scales.data(), zeros.data()))
      Fail("a finite row is refused");
    for (int64_t g = 0; g < groups; ++g) {
      const float* x = row.data() + g * scheme.group;
      const size_t at = static_cast<size_t>(g);
      const Group4 group =
          ReadGroup(codes.data() + g * scheme.group / 2, scales[at], zeros[at], scheme.group);
      std::vector<double> values;
      for (size_t i = 0; i < static_cast<size_t>(scheme.group); ++i) {
        values.push_back(group.Value(i));
        // No other code would come closer.
        for (int other = 0; other < 16; ++other) {
          const double off = std::fabs((other - group.zero) * group.scale - x[i]);
          if (off < std::fabs(group.Value(i) - x[i]) - 1e-5 * std::fabs(group.scale))
            Fail("weight %zu of round %d: code %d is nearer than %d", i, round, other, group.codes[i]);
        }
      }
      const double error = WeightedError(x, scheme.group, !scheme.zero_points, values);
      const double other =
          WeightedError(x, scheme.group, !scheme.zero_points, MinMax(x, scheme.group, scheme.zero_points));
      // The best scale is rounded to bf16 after the search, which may cost a little.
      if (!(error <= 1.02 * other)) Fail("round %d: the error is %g, of min and max %g", round, error, other);
      searched += std::sqrt(error / other);
      plain += 1.0;
    }
  }
  if (!(searched < 0.92 * plain)) Fail("the search gains %g only", 1.0 - searched / plain);
}

void Extremes() {
  const Int4Scheme schemes[] = {{32, false}, {32, true}};
  for (const Int4Scheme& scheme : schemes) {
    for (const float value : {0.0f, 1e-40f, 1e-25f, 3e38f, -3e38f, 2.5f}) {
      const std::vector<float> row(32, value);
      uint8_t codes[16], zero = 8;
      uint16_t scale = 0;
      if (!RoundToInt4(row.data(), 32, scheme, codes, &scale, &zero))
        Fail("%g is refused", static_cast<double>(value));
      const Group4 group = ReadGroup(codes, scale, zero, 32);
      for (size_t i = 0; i < 32; ++i) {
        const double found = group.Value(i);
        const bool vanishes = std::fabs(value) < 1e-20f && found == 0.0;
        if (!vanishes && !(std::fabs(found - value) <= 0.01 * std::fabs(value)))
          Fail("%g becomes %g", static_cast<double>(value), found);
      }
    }
  }
  int8_t code = 1;
  float scale = 0.0f;
  const float zero = 0.0f;
  if (!RoundToInt8(&zero, 1, &code, &scale) || code != 0 || scale != 1.0f)
    Fail("zero becomes another number");
}

void NotFinite() {
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    std::vector<float> row(64, 1.0f);
    row[37] = bad;
    int8_t codes[64];
    uint8_t packed[32], zeros[2];
    uint16_t scales[2];
    float scale = 0.0f;
    if (RoundToInt8(row.data(), 64, codes, &scale)) Fail("%g is rounded to int8", static_cast<double>(bad));
    if (RoundToInt4(row.data(), 64, {}, packed, scales, zeros))
      Fail("%g is rounded to int4", static_cast<double>(bad));
  }
}

}  // namespace

std::vector<Group> RoundingGroups() {
  return {{"rounding to int8", Int8Values},
          {"rounding to int4", Int4Values},
          {"rounding of extreme weights", Extremes},
          {"rounding refuses what is not finite", NotFinite}};
}

}  // namespace switchyard::cpu
