// Checks which experts a bounded number of slots holds.
#include "../../kernels/weights/residency.h"

#include <set>
#include <stdexcept>

#include "cuda/testing.h"

namespace {

using switchyard::Residency;

std::vector<int64_t> Slots(const std::vector<Residency::Fetch>& fetches) {
  std::vector<int64_t> slots;
  for (const auto& fetch : fetches) slots.push_back(fetch.slot);
  return slots;
}

void FreeSlotsFirst() {
  Residency residency(10, 3);
  EXPECT((Slots(residency.Request({7, 4})) == std::vector<int64_t>{0, 1}), "two free slots");
  EXPECT(residency.Request({4, 7}).empty(), "both are there");
  EXPECT((Slots(residency.Request({1})) == std::vector<int64_t>{2}), "the last free slot");
  EXPECT(residency.SlotOf(7) == 0 && residency.SlotOf(4) == 1 && residency.SlotOf(1) == 2, "all three stay");
  EXPECT(residency.SlotOf(0) == -1, "an expert that was never wanted");
}

void LeastUsedGivesWay() {
  Residency residency(10, 3);
  residency.Request({0, 1, 2});
  residency.Request({0, 2});
  residency.Request({2});
  const auto fetches = residency.Request({5});
  EXPECT(fetches.size() == 1 && fetches[0].expert == 5, "one expert is brought");
  EXPECT(residency.SlotOf(1) == -1, "used once, it gives way");
  EXPECT(residency.SlotOf(0) >= 0 && residency.SlotOf(2) >= 0, "used more often, they stay");
}

void OldestOfEqualsGivesWay() {
  Residency residency(10, 3);
  residency.Request({3});
  residency.Request({1});
  residency.Request({2});
  residency.Request({9});
  EXPECT(residency.SlotOf(3) == -1, "used once like the others, but longest ago");
}

void OldFavouritesGiveWay() {
  Residency residency(10, 3);
  for (int i = 0; i < 1000; i++) residency.Request({0, 1});
  // Another subject needs three others, over and over.
  int64_t brought = 0;
  for (int i = 0; i < 1000; i++) brought += static_cast<int64_t>(residency.Request({i % 3 + 2}).size());
  EXPECT(residency.SlotOf(0) == -1 && residency.SlotOf(1) == -1, "what nobody needs any more");
  EXPECT(brought < 300, "from then on all are there");
}

void WhatIsWantedStays() {
  Residency residency(10, 2);
  for (int i = 0; i < 5; i++) residency.Request({0});
  residency.Request({1});
  // Expert 1 is the coldest, and wanted together with the new one.
  residency.Request({1, 2});
  EXPECT(residency.SlotOf(1) >= 0 && residency.SlotOf(2) >= 0, "both that are wanted");
  EXPECT(residency.SlotOf(0) == -1, "the other one");
}

void WhatIsPinnedStays() {
  Residency residency(10, 3);
  residency.Pin(8);
  residency.Pin(8);  // once more is no more
  residency.Request({8});
  for (int round = 0; round < 5; round++) {
    for (const int64_t expert : {0, 1, 2, 3}) residency.Request({expert});
  }
  EXPECT(residency.IsPinned(8) && residency.SlotOf(8) >= 0, "the least used of all");
  EXPECT(!residency.IsPinned(3) && residency.SlotOf(3) >= 0 && residency.SlotOf(2) >= 0,
         "in turns, the others");
  EXPECT(residency.Request({0, 1, 8}).size() == 2, "beside as many as there are other slots");
  bool refused = false;
  try {
    residency.Request({0, 1, 2});
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  EXPECT(refused, "three experts in two slots");
  residency.Forget(8);
  EXPECT(residency.Request({0, 1}).empty(), "its slot is free for it");
  EXPECT(residency.Request({8, 1, 0}).size() == 1 && residency.SlotOf(8) >= 0, "it comes again");
  residency.Pin(0);
  residency.Pin(1);
  refused = false;
  try {
    residency.Pin(2);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  EXPECT(refused, "a fourth in three slots");
}

void TooMany() {
  Residency residency(10, 2);
  bool refused = false;
  try {
    residency.Request({1, 2, 3});
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  EXPECT(refused, "three experts in two slots");
}

void ForgottenIsFetchedAgain() {
  Residency residency(3, 2);
  residency.Request({0, 1});
  residency.Forget(1);
  residency.Forget(2);  // was never there
  EXPECT(residency.SlotOf(0) >= 0 && residency.SlotOf(1) < 0, "only expert 1 is forgotten");
  const auto fetches = residency.Request({0, 1});
  EXPECT(fetches.size() == 1 && fetches[0].expert == 1, "expert 1 comes again");
  EXPECT(residency.SlotOf(1) == fetches[0].slot, "as the request says");
  EXPECT(residency.SlotOf(0) != fetches[0].slot, "expert 0 stays");
}

// Whatever is asked for, every wanted expert has a slot of its own afterwards, and only missing ones come.
void RandomRequests() {
  constexpr int64_t kExperts = 40, kSlots = 9;
  Residency residency(kExperts, kSlots);
  // Some stay, for which there is a slot each beside those for what is wanted.
  constexpr int64_t kPinned = 3;
  for (int64_t expert = 0; expert < kPinned; expert++) residency.Pin(7 * expert);
  residency.Request({0, 7, 14});
  for (int round = 0; round < 2000; round++) {
    std::set<int64_t> wanted;
    const int count = testing::RandomInt(0, kSlots - kPinned);
    while (static_cast<int>(wanted.size()) < count) wanted.insert(testing::RandomInt(0, kExperts - 1));
    size_t missing = 0;
    for (const int64_t expert : wanted) missing += residency.SlotOf(expert) < 0;
    const auto fetches = residency.Request({wanted.begin(), wanted.end()});
    EXPECT(fetches.size() == missing, "round %d", round);
    std::set<int64_t> taken;
    int64_t resident = 0;
    for (int64_t expert = 0; expert < kExperts; expert++) {
      const int64_t slot = residency.SlotOf(expert);
      if (slot < 0) continue;
      resident++;
      EXPECT(slot < kSlots && taken.insert(slot).second, "slot %d in round %d", static_cast<int>(slot),
             round);
    }
    EXPECT(resident <= kSlots, "round %d", round);
    for (const int64_t expert : wanted) EXPECT(residency.SlotOf(expert) >= 0, "round %d", round);
    for (int64_t expert = 0; expert < kPinned; expert++) {
      EXPECT(residency.SlotOf(7 * expert) >= 0, "round %d", round);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  return testing::Main(argc, argv,
                       {{"free slots first", FreeSlotsFirst},
                        {"the least used gives way", LeastUsedGivesWay},
                        {"the oldest of equals gives way", OldestOfEqualsGivesWay},
                        {"old favourites give way", OldFavouritesGiveWay},
                        {"what is wanted stays", WhatIsWantedStays},
                        {"what is pinned stays", WhatIsPinnedStays},
                        {"too many", TooMany},
                        {"what could not be brought comes again", ForgottenIsFetchedAgain},
                        {"random requests", RandomRequests}});
}
