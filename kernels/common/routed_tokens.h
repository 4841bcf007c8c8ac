// How many tokens the routers of a session have sent to each expert.
#pragma once
#include <atomic>
#include <cstdint>
#include <deque>
#include <vector>

namespace switchyard {

// Of one router, over all runs; these may overlap.
class RoutedTokens {
 public:
  RoutedTokens(int64_t layer, int64_t experts) : layer_(layer), counts_(static_cast<size_t>(experts)) {}

  int64_t layer() const { return layer_; }
  size_t experts() const { return counts_.size(); }
  int64_t of(size_t expert) const { return counts_[expert].load(std::memory_order_relaxed); }

  // Every index names an expert.
  void Count(const int32_t* indices, int64_t count) {
    for (int64_t i = 0; i < count; i++)
      counts_[static_cast<size_t>(indices[i])].fetch_add(1, std::memory_order_relaxed);
  }

 private:
  const int64_t layer_;
  std::vector<std::atomic<int64_t>> counts_;
};

// Of a session; routers are added while it opens and stay where they are.
using SessionRouting = std::deque<RoutedTokens>;

}  // namespace switchyard
