#include "residency.h"

#include <stdexcept>
#include <string>
#include <tuple>

namespace switchyard {

Residency::Residency(int64_t experts, int64_t slots)
    : slot_of_(static_cast<size_t>(experts), -1),
      expert_in_(static_cast<size_t>(slots), -1),
      uses_(static_cast<size_t>(experts)) {}

std::vector<Residency::Fetch> Residency::Request(const std::vector<int64_t>& wanted) {
  if (static_cast<int64_t>(wanted.size()) > slots()) {
    throw std::invalid_argument(std::to_string(wanted.size()) + " experts are wanted at once, but there is " +
                                "room for " + std::to_string(slots()));
  }
  requests_++;
  for (const int64_t expert : wanted) {
    Use& use = uses_[static_cast<size_t>(expert)];
    use.count++;
    use.last = requests_;
  }
  std::vector<Fetch> fetches;
  for (const int64_t expert : wanted) {
    if (SlotOf(expert) >= 0) continue;
    const int64_t slot = Victim();
    const int64_t evicted = expert_in_[static_cast<size_t>(slot)];
    if (evicted >= 0) slot_of_[static_cast<size_t>(evicted)] = -1;
    expert_in_[static_cast<size_t>(slot)] = expert;
    slot_of_[static_cast<size_t>(expert)] = slot;
    fetches.push_back({expert, slot});
  }
  return fetches;
}

void Residency::Forget(int64_t expert) {
  const int64_t slot = SlotOf(expert);
  if (slot < 0) return;
  expert_in_[static_cast<size_t>(slot)] = -1;
  slot_of_[static_cast<size_t>(expert)] = -1;
}

// The slot to give away; one used in this very request never is, because there are at least as many slots as
// wanted experts.
int64_t Residency::Victim() const {
  int64_t best = -1;
  std::tuple<int64_t, int64_t> best_use;
  for (int64_t slot = 0; slot < slots(); slot++) {
    const int64_t expert = expert_in_[static_cast<size_t>(slot)];
    if (expert < 0) return slot;
    const Use& use = uses_[static_cast<size_t>(expert)];
    if (use.last == requests_) continue;
    const auto key = std::make_tuple(use.count, use.last);
    if (best < 0 || key < best_use) {
      best = slot;
      best_use = key;
    }
  }
  return best;
}

}  // namespace switchyard
