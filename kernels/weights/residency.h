// Which of many experts are where only some of them have room: on a device, or in the memory of the machine.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace switchyard {

// What came of fetching experts on demand; all zero where every weight is resident.
struct ResidencyCounts {
  int64_t hits = 0;         // experts wanted that were there
  int64_t fetches = 0;      // experts that had to be brought
  int64_t bytes = 0;        // brought
  int64_t pinned = 0;       // experts that stay
  int64_t pinned_hits = 0;  // of the hits, those on them
  // Experts of which reading began before a router spoke, and those of them that were wanted then.
  int64_t ahead = 0, ahead_wanted = 0;
};

// An expert of a layer: the handle of its gate matrix, or of the tensor that holds those of all, and its
// place among the layer's experts.
struct ExpertId {
  int64_t gate, index;
};

// A table of slots, each holding one expert or none. Experts are numbers from 0 on.
class Residency {
 public:
  // An expert to bring, and the slot that takes it.
  struct Fetch {
    int64_t expert;
    int64_t slot;
  };

  Residency(int64_t experts, int64_t slots);

  // Has an expert stay once it was brought. Throws std::invalid_argument where as many are pinned as there
  // are slots.
  void Pin(int64_t expert);
  bool IsPinned(int64_t expert) const { return pinned_[static_cast<size_t>(expert)]; }

  // Notes a use of each of `wanted` (all different, at most as many as slots) and returns those to be
  // brought, which count as resident from then on. They take free slots first, then those of the experts used
  // least often, among equals least recently; what is pinned or wanted now stays. Counts are halved now and
  // then, so that what another subject needed long ago does not hold its slots for ever. Throws
  // std::invalid_argument where more experts that are not pinned are wanted than there are slots beside the
  // pinned ones.
  std::vector<Fetch> Request(const std::vector<int64_t>& wanted);

  // Takes back that an expert is resident, because it could not be brought.
  void Forget(int64_t expert);

  // The slot of an expert, or -1.
  int64_t SlotOf(int64_t expert) const { return slot_of_[static_cast<size_t>(expert)]; }
  // Has more experts than before, of which none is resident.
  void AddExperts(int64_t experts);
  int64_t slots() const { return static_cast<int64_t>(expert_in_.size()); }

 private:
  void HalveCounts();
  int64_t Victim() const;

  struct Use {
    int64_t count = 0;
    int64_t last = 0;  // number of the request
  };
  int64_t requests_ = 0;
  int64_t uses_since_halving_ = 0;
  std::vector<int64_t> slot_of_;    // by expert
  std::vector<int64_t> expert_in_;  // by slot
  std::vector<Use> uses_;           // by expert
  std::vector<bool> pinned_;        // by expert
  int64_t num_pinned_ = 0;
};

}  // namespace switchyard
