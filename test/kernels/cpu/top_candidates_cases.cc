// The choice of the highest logits against a stable sort.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "../../../kernels/cpu/workspace.h"
#include "testing.h"

namespace switchyard::cpu {
namespace {

// The first `count` ids of a stable sort by falling value, with NaN as -inf.
void CheckTopCandidates(const std::vector<float>& logits, int64_t rows, int64_t count, int threads) {
  const int64_t vocab = static_cast<int64_t>(logits.size()) / rows;
  std::vector<float> values(static_cast<size_t>(rows * count));
  std::vector<int32_t> ids(values.size());
  TestPool pool(threads);
  Workspace workspace;
  TopCandidates({logits.data(), rows, vocab, count, values.data(), ids.data()}, workspace, pool);
  for (int64_t row = 0; row < rows; ++row) {
    const auto value = [&](int32_t id) {
      const float x = logits[static_cast<size_t>(row * vocab + id)];
      return std::isnan(x) ? -std::numeric_limits<float>::infinity() : x;
    };
    std::vector<int32_t> order(static_cast<size_t>(vocab));
    for (int64_t id = 0; id < vocab; ++id) order[static_cast<size_t>(id)] = static_cast<int32_t>(id);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return value(a) > value(b); });
    for (int64_t i = 0; i < count; ++i) {
      const int32_t expected = order[static_cast<size_t>(i)];
      const size_t at = static_cast<size_t>(row * count + i);
      if (ids[at] != expected || values[at] != value(expected)) {
        Fail("%lld of %lld x %lld, %d threads: row %lld, place %lld is %d (%g), expected %d (%g)",
             static_cast<long long>(count), static_cast<long long>(rows), static_cast<long long>(vocab),
             threads, static_cast<long long>(row), static_cast<long long>(i), ids[at], values[at], expected,
             value(expected));
        return;
      }
    }
  }
}

void TopCandidatesSorted() {
  Random random(77);
  for (const int64_t rows : {1, 3}) {
    for (const int64_t vocab : {1, 2, 63, 64, 65, 1000, 16384, 40001}) {
      std::vector<float> logits = random.Normals(rows * vocab);
      for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{50}, int64_t{300}, vocab}) {
        if (count > vocab) continue;
        for (const int threads : {1, 2, 7}) CheckTopCandidates(logits, rows, count, threads);
      }
    }
  }
}

void TopCandidatesTies() {
  Random random(78);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float kSpecial[] = {std::nanf(""), -kInfinity, kInfinity, 0.0f, -0.0f};
  for (const int64_t vocab : {5, 200, 40000}) {
    std::vector<float> few(static_cast<size_t>(vocab)), special(few.size()), nothing(few.size());
    for (float& value : few) value = static_cast<float>(random.Int(0, 3));
    for (float& value : special) value = kSpecial[random.Int(0, 4)];
    for (float& value : nothing) value = kSpecial[random.Int(0, 1)];
    for (const int64_t count : {int64_t{1}, int64_t{5}, std::min<int64_t>(vocab, 150), vocab}) {
      for (const auto& logits : {few, special, nothing}) CheckTopCandidates(logits, 1, count, 2);
    }
  }
}

}  // namespace

std::vector<Group> TopCandidatesGroups() {
  return {
      {"top candidates match a sort", TopCandidatesSorted},
      {"top candidates: ties, NaN and infinities", TopCandidatesTies},
  };
}

}  // namespace switchyard::cpu
