// How much work the routers of a session have given to each expert.
#pragma once
#include <atomic>
#include <cstdint>
#include <deque>
#include <vector>

namespace switchyard {

// Of one router, over all runs; these may overlap.
class RoutedTokens {
 public:
  RoutedTokens(int64_t layer, int64_t experts)
      : layer_(layer), tokens_(static_cast<size_t>(experts)), reads_(static_cast<size_t>(experts)) {}

  int64_t layer() const { return layer_; }
  size_t experts() const { return tokens_.size(); }
  int64_t tokens(size_t expert) const { return tokens_[expert].load(std::memory_order_relaxed); }
  // Runs that sent any token there, for which its weights had to be read.
  int64_t reads(size_t expert) const { return reads_[expert].load(std::memory_order_relaxed); }

  // The choices of one run, [tokens, per_token]; every index names an expert.
  void Count(const int32_t* indices, int64_t tokens, int64_t per_token) {
    // A token chooses an expert once.
    std::vector<bool> seen(tokens > 1 ? experts() : 0);
    for (int64_t i = 0; i < tokens * per_token; i++) {
      const auto expert = static_cast<size_t>(indices[i]);
      tokens_[expert].fetch_add(1, std::memory_order_relaxed);
      if (tokens > 1) {
        if (seen[expert]) continue;
        seen[expert] = true;
      }
      reads_[expert].fetch_add(1, std::memory_order_relaxed);
    }
  }

 private:
  const int64_t layer_;
  std::vector<std::atomic<int64_t>> tokens_, reads_;
};

// Of a session; routers are added while it opens and stay where they are.
using SessionRouting = std::deque<RoutedTokens>;

}  // namespace switchyard
