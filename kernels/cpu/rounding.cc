#include "rounding.h"

#include <algorithm>
#include <cmath>

#include "../common/float_types.h"

namespace switchyard::cpu {
namespace {

constexpr float kInt8Top = 127.0f;
// Without zero points codes stand for -8 to 7.
constexpr float kMiddle = 8.0f;
constexpr float kInt4Top = 15.0f;

// Sums are kept apart in lanes, so that compilers may use vectors for them.
constexpr int64_t kLanes = 8;

// Adding and taking away 1.5 * 2^23 leaves the nearest whole number, ties to even, of what is below 2^22.
float Nearest(float value) { return (value + 12582912.0f) - 12582912.0f; }

float Bounded(float value, float low, float high) {
  const float above = value > low ? value : low;
  return above < high ? above : high;
}

float Total(const float (&lanes)[kLanes]) {
  float sum = 0.0f;
  for (float lane : lanes) sum += lane;
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
  float products[kLanes] = {}, squares[kLanes] = {};
  for (int64_t i = 0; i < g.size; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float x = g.x[i + lane];
      const float code = Nearest(Bounded(x * inverse + zero, low, high)) - zero;
      const float weighted = g.weight[i + lane] * code;
      products[lane] += weighted * x;
      squares[lane] += weighted * code;
    }
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
  Range found;
  for (int64_t i = 0; i < size; ++i) {
    found.low = std::min(found.low, x[i]);
    found.high = std::max(found.high, x[i]);
  }
  return found;
}

bool IsFinite(const float* x, int64_t size) {
  return std::all_of(x, x + size, [](float value) { return std::isfinite(value); });
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
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < size; ++i) x[i] = row[i] / unit;
  for (int64_t i = 0; i < size; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  }
  const float mean_square = Total(lanes) / static_cast<float>(size);
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
    for (int64_t i = 0; i < size; i += 2) {
      const float low = Nearest(Bounded(x[i] / scale + grid.zero, 0.0f, kInt4Top));
      const float high = Nearest(Bounded(x[i + 1] / scale + grid.zero, 0.0f, kInt4Top));
      codes[(g * size + i) / 2] =
          static_cast<uint8_t>(static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 4);
    }
  }
  return true;
}

}  // namespace switchyard::cpu
