#include "residency.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <tuple>

namespace switchyard {

// Uses of each slot, on average, after which all counts are halved: some dozens of tokens.
constexpr int64_t kUsesToHalving = 32;

Residency::Residency(int64_t experts, int64_t slots)
    : slot_of_(static_cast<size_t>(experts), -1),
      expert_in_(static_cast<size_t>(slots), -1),
      uses_(static_cast<size_t>(experts)),
      pinned_(static_cast<size_t>(experts)) {}

void Residency::Pin(int64_t expert) {
  if (IsPinned(expert)) return;
  if (num_pinned_ == slots())
    throw std::invalid_argument("no slot is left to pin expert " + std::to_string(expert) + " to");
  pinned_[static_cast<size_t>(expert)] = true;
  num_pinned_++;
}

std::vector<Residency::Fetch> Residency::Request(const std::vector<int64_t>& wanted) {
  const int64_t loose =
      std::count_if(wanted.begin(), wanted.end(), [this](int64_t expert) { return !IsPinned(expert); });
  if (loose > slots() - num_pinned_) {
    throw std::invalid_argument(std::to_string(loose) +
                                " experts are wanted at once, but there is room for " +
                                std::to_string(slots() - num_pinned_));
  }
  requests_++;
  for (const int64_t expert : wanted) {
    Use& use = uses_[static_cast<size_t>(expert)];
    use.count++;
    use.last = requests_;
  }
  uses_since_halving_ += static_cast<int64_t>(wanted.size());
  if (uses_since_halving_ >= kUsesToHalving * slots()) HalveCounts();
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

void Residency::HalveCounts() {
  for (Use& use : uses_) use.count /= 2;
  uses_since_halving_ = 0;
}

void Residency::Forget(int64_t expert) {
  const int64_t slot = SlotOf(expert);
  if (slot < 0) return;
  expert_in_[static_cast<size_t>(slot)] = -1;
  slot_of_[static_cast<size_t>(expert)] = -1;
}

void Residency::AddExperts(int64_t experts) {
  const size_t count = slot_of_.size() + static_cast<size_t>(experts);
  slot_of_.resize(count, -1);
  uses_.resize(count);
  pinned_.resize(count, false);
}

// The slot to give away. There is one: slots suffice for what is pinned and what is wanted.
int64_t Residency::Victim() const {
  int64_t best = -1;
  std::tuple<int64_t, int64_t> best_use;
  for (int64_t slot = 0; slot < slots(); slot++) {
    const int64_t expert = expert_in_[static_cast<size_t>(slot)];
    if (expert < 0) return slot;
    const Use& use = uses_[static_cast<size_t>(expert)];
    if (use.last == requests_ || IsPinned(expert)) continue;
    const auto key = std::make_tuple(use.count, use.last);
    if (best < 0 || key < best_use) {
      best = slot;
      best_use = key;
    }
  }
  return best;
}

}  // namespace switchyard
