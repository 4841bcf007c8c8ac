// The layers of experts of a session, in the order in which they run, with their routers.
#pragma once
#include <cstdint>
#include <deque>

#include "../weights/expert_memory.h"
#include "../weights/weight_ref.h"

namespace switchyard::ops {

struct RoutedLayer {
  WeightRef router;  // [experts, hidden]
  int64_t top_k = 0;
  ExpertMemory::Layer* experts = nullptr;
  const RoutedLayer* next = nullptr;  // null: the last
};

// Filled while the session opens, which makes ops in the order of the graph: a router, then its experts.
class RoutedLayers {
 public:
  void AddRouter(const WeightRef& router, int64_t top_k) { layers_.push_back({router, top_k}); }

  // The layer of the last router. Null where there is none, or it chooses among others than these experts.
  const RoutedLayer* AddExperts(ExpertMemory::Layer& experts, int64_t count) {
    if (layers_.empty() || layers_.back().experts != nullptr || layers_.back().router.rows != count)
      return nullptr;
    layers_.back().experts = &experts;
    if (layers_.size() > 1) layers_[layers_.size() - 2].next = &layers_.back();
    return &layers_.back();
  }

 private:
  std::deque<RoutedLayer> layers_;  // they stay where they are
};

}  // namespace switchyard::ops
