#include "rounding.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../common/float_types.h"

namespace switchyard::cpu {
namespace {

constexpr float kInt8Top = 127.0f;
// Without zero points codes stand for -8 to 7.
constexpr float kMiddle = 8.0f;
constexpr float kInt4Top = 15.0f;

// Eight lanes on every instruction set, so that results are the same: two vectors of the size that all have.
constexpr int64_t kLanes = 8;
typedef float Four __attribute__((vector_size(16)));
struct Lanes {
  Four low = {}, high = {};

  Lanes() = default;
  Lanes(Four a, Four b) : low(a), high(b) {}
  explicit Lanes(float value) : low(Four{} + value), high(low) {}
  float operator[](int64_t i) const { return i < 4 ? low[i] : high[i - 4]; }
};

Lanes Load(const float* p) {
  Lanes v;
  std::memcpy(&v.low, p, sizeof(v.low));
  std::memcpy(&v.high, p + 4, sizeof(v.high));
  return v;
}

void Store(float* p, const Lanes& v) {
  std::memcpy(p, &v.low, sizeof(v.low));
  std::memcpy(p + 4, &v.high, sizeof(v.high));
}

Lanes operator+(const Lanes& a, const Lanes& b) { return {a.low + b.low, a.high + b.high}; }
Lanes operator-(const Lanes& a, const Lanes& b) { return {a.low - b.low, a.high - b.high}; }
Lanes operator*(const Lanes& a, const Lanes& b) { return {a.low * b.low, a.high * b.high}; }
Lanes operator/(const Lanes& a, const Lanes& b) { return {a.low / b.low, a.high / b.high}; }
Lanes Min(const Lanes& a, const Lanes& b) {
  return {a.low < b.low ? a.low : b.low, a.high < b.high ? a.high : b.high};
}
Lanes Max(const Lanes& a, const Lanes& b) {
  return {a.low > b.low ? a.low : b.low, a.high > b.high ? a.high : b.high};
}

// Adding and taking away 1.5 * 2^23 leaves the nearest whole number, ties to even, of what is below 2^22.
template <typename T>
T Nearest(const T& value) {
  const T shift(12582912.0f);
  return (value + shift) - shift;
}

float Bounded(float value, float low, float high) {
  const float above = value > low ? value : low;
  return above < high ? above : high;
}

Lanes Bounded(const Lanes& value, const Lanes& low, const Lanes& high) { return Min(Max(value, low), high); }

float Total(const Lanes& lanes) {
  float sum = 0.0f;
  for (int64_t i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

// A group of weights, and the weight of each one's error.
struct Group {
  const float* x;
  const float* weight;
  int64_t size;
};

// How much of the weighted squares codes round(x * inverse + zero) explain, and the scale that makes the most
// of them.
struct Fit {
  float explained = 0.0f;
  float scale = 0.0f;
};

Fit FitScale(const Group& g, float inverse, float zero, float low, float high) {
  const Lanes inverses(inverse), zeros(zero), lows(low), highs(high);
  Lanes products, squares;
  for (int64_t i = 0; i < g.size; i += kLanes) {
    const Lanes x = Load(g.x + i);
    const Lanes code = Nearest(Bounded(x * inverses + zeros, lows, highs)) - zeros;
    const Lanes weighted = Load(g.weight + i) * code;
    products = products + weighted * x;
    squares = squares + weighted * code;
  }
  const float product = Total(products), square = Total(squares);
  if (!(square > 0.0f)) return {};
  return {product * product / square, product / square};
}

struct Range {
  float low = 0.0f, high = 0.0f;  // 0 is between them
  float Greatest() const { return std::max(high, -low); }
};

Range RangeOf(const float* x, int64_t size) {
  Lanes lows, highs;
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    lows = Min(Load(x + i), lows);
    highs = Max(Load(x + i), highs);
  }
  Range found;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    found.low = std::min(found.low, lows[lane]);
    found.high = std::max(found.high, highs[lane]);
  }
  for (; i < size; ++i) {
    found.low = std::min(found.low, x[i]);
    found.high = std::max(found.high, x[i]);
  }
  return found;
}

bool IsFinite(const float* x, int64_t size) {
  // Zero times what is not finite is NaN.
  Lanes zeros;
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) zeros = zeros + Load(x + i) * Lanes(0.0f);
  float sum = Total(zeros);
  for (; i < size; ++i) sum += x[i] * 0.0f;
  return !std::isnan(sum);
}

// What turns codes into weights.
struct Grid {
  uint16_t scale = FloatToBf16(1.0f);
  float zero = kMiddle;
};

// The code on which the greatest magnitude falls is about -8, to which it may be cut off a little.
Grid SearchSymmetric(const Group& g, const Range& range, float unit) {
  constexpr int kSteps = 11;
  const float greatest = range.high > -range.low ? range.high : range.low;
  Fit best;
  for (int step = 0; step < kSteps; ++step) {
    const float reach = -7.0f - 0.2f * static_cast<float>(step);
    const Fit fit = FitScale(g, reach / greatest, 0.0f, -kMiddle, kMiddle - 1.0f);
    if (fit.explained > best.explained) best = fit;
  }
  return {FloatToBf16(best.scale * unit), kMiddle};
}

// The range of the group is spread over the codes, from cut off a little to with a little to spare.
Grid SearchZeroPoint(const Group& g, const Range& range, float unit) {
  constexpr int kSteps = 9;
  Fit best;
  float best_zero = kMiddle;
  for (int step = 0; step < kSteps; ++step) {
    const float inverse = (13.4f + 0.5f * static_cast<float>(step)) / (range.high - range.low);
    const float zero = Nearest(Bounded(-range.low * inverse, 0.0f, kInt4Top));
    const Fit fit = FitScale(g, inverse, zero, 0.0f, kInt4Top);
    if (fit.explained > best.explained) {
      best = fit;
      best_zero = zero;
    }
  }
  return {FloatToBf16(best.scale * unit), best_zero};
}

constexpr int64_t kMaxGroup = 1024;
// Weights below it are taken for zeros: scales of such groups would have too few digits.
constexpr float kLeast = 1e-30f;

Grid Search(const float* row, int64_t size, bool zero_points) {
  const Range given = RangeOf(row, size);
  const float unit = given.Greatest();
  if (unit < kLeast) return {};
  // In units of the greatest, so that no square overflows.
  float x[kMaxGroup], weights[kMaxGroup];
  const Lanes units(unit);
  Lanes squares;
  for (int64_t i = 0; i < size; i += kLanes) {
    const Lanes value = Load(row + i) / units;
    Store(x + i, value);
    squares = squares + value * value;
  }
  const float mean_square = Total(squares) / static_cast<float>(size);
  for (int64_t i = 0; i < size; ++i) weights[i] = zero_points ? 1.0f : std::sqrt(mean_square + x[i] * x[i]);
  const Range range = {given.low / unit, given.high / unit};
  const Group group = {x, weights, size};
  return zero_points ? SearchZeroPoint(group, range, unit) : SearchSymmetric(group, range, unit);
}

}  // namespace

bool RoundToInt8(const float* row, int64_t cols, int8_t* codes, float* scale) {
  if (!IsFinite(row, cols)) return false;
  const float step = RangeOf(row, cols).Greatest() / kInt8Top;
  *scale = step > 0.0f ? step : 1.0f;
  for (int64_t i = 0; i < cols; ++i)
    codes[i] = static_cast<int8_t>(Nearest(Bounded(row[i] / *scale, -kInt8Top, kInt8Top)));
  return true;
}

bool RoundToInt4(const float* row, int64_t cols, const Int4Scheme& scheme, uint8_t* codes, uint16_t* scales,
                 uint8_t* zeros) {
  if (!IsFinite(row, cols)) return false;
  const int64_t size = scheme.group;
  for (int64_t g = 0; g < cols / size; ++g) {
    const float* x = row + g * size;
    const Grid grid = Search(x, size, scheme.zero_points);
    const float scale = Bf16ToFloat(grid.scale);
    scales[g] = grid.scale;
    if (scheme.zero_points) zeros[g] = static_cast<uint8_t>(grid.zero);
    const Lanes divisors(scale), shifts(grid.zero);
    for (int64_t i = 0; i < size; i += kLanes) {
      const Lanes nearest = Nearest(Bounded(Load(x + i) / divisors + shifts, Lanes(0.0f), Lanes(kInt4Top)));
      uint8_t* out = codes + (g * size + i) / 2;
      for (int64_t lane = 0; lane < kLanes; lane += 2) {
        const auto low = static_cast<uint32_t>(nearest[lane]),
                   high = static_cast<uint32_t>(nearest[lane + 1]);
        out[lane / 2] = static_cast<uint8_t>(low | high << 4);
      }
    }
  }
  return true;
}

}  // namespace switchyard::cpu
