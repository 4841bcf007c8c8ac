// Cases for the choice of candidates, counters and copies of blocks.
#include <climits>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>

#include "emulated.h"

using namespace switchyard;
using namespace switchyard::cuda;
using testing::Guarded;
using testing::RandomInt;

// Values are multiples of 1/4 with infinities and NaNs among them, so that many are equal.
void TopCandidatesMatchASort() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float special[] = {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(),
                           -std::numeric_limits<float>::quiet_NaN(), -0.0f};
  struct Case {
    int rows, vocab, k, range;
  };
  const Case cases[] = {{1, 1, 1, 5},       {3, 40, 40, 9},          {2, 2048, 64, 50},
                        {1, 2049, 1, 1000}, {2, 5000, 7, 40000},     {1, 9000, 1000, 200},
                        {1, 1100, 1024, 0}, {1, 151936, 1, 1 << 20}, {1, 151936, 50, 1 << 20}};
  for (const Case& c : cases) {
    const Guarded logits(size_t{4} * c.rows * c.vocab, 4);
    const Guarded values(size_t{4} * c.rows * c.k, 4), ids(size_t{4} * c.rows * c.k, 4);
    for (int i = 0; i < c.rows * c.vocab; ++i) {
      const int draw = RandomInt(0, 29);
      logits.As<float>()[i] = draw < 5 ? special[draw] : RandomInt(-c.range, c.range) * 0.25f;
    }
    const size_t bytes = TopCandidatesWorkspaceBytes(c.rows, c.vocab, c.k);
    const Guarded workspace(bytes, 256);
    const TopCandidatesArgs args = {logits.As<float>(), c.rows,           c.vocab, c.k, values.As<float>(),
                                    ids.As<int32_t>(),  workspace.data(), bytes};
    EXPECT(LaunchTopCandidates(args, nullptr) == cudaSuccess, "%d of %d", c.k, c.vocab);
    for (int row = 0; row < c.rows; ++row) {
      std::vector<float> keys(logits.As<float>() + int64_t{row} * c.vocab,
                              logits.As<float>() + int64_t{row + 1} * c.vocab);
      for (float& key : keys) key = std::isnan(key) ? -kInfinity : key;
      std::vector<int> order(c.vocab);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return keys[a] > keys[b]; });
      for (int i = 0; i < c.k; ++i) {
        EXPECT(args.ids[row * c.k + i] == order[i] && args.values[row * c.k + i] == keys[order[i]],
               "%d of %d, row %d: place %d has id %d, not %d", c.k, c.vocab, row, i, args.ids[row * c.k + i],
               order[i]);
      }
    }
  }
  const float one = 1.0f;
  float value;
  int32_t id;
  std::vector<unsigned char> workspace(TopCandidatesWorkspaceBytes(1, 5000, 1024));
  TopCandidatesArgs args = {&one, 1, 5000, 1025, &value, &id, workspace.data(), workspace.size()};
  EXPECT(LaunchTopCandidates(args, nullptr) == cudaErrorInvalidValue, "1025 candidates");
  args.vocab = 1;
  args.k = 2;
  EXPECT(LaunchTopCandidates(args, nullptr) == cudaErrorInvalidValue, "more candidates than logits");
}
