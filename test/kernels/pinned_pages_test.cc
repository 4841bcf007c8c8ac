// Checks which pages of tensors are kept in memory.
#include "../../kernels/weights/pinned_pages.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "../../kernels/platform/pages.h"
#include "cuda/testing.h"

namespace {

using switchyard::PinnedBytes;
using switchyard::PinSlices;
using switchyard::TensorSlice;
using switchyard::WeightStore;

constexpr int64_t kUint8 = 2;
constexpr int64_t kExperts = 4, kPages = 3;

const std::atomic<bool> kGoOn{false};

int64_t Page() { return static_cast<int64_t>(switchyard::platform::PageSize()); }

// Pages that the kernel counts as locked for this process.
int64_t LockedPages() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kilobytes = 0;
  while (status >> word) {
    if (word == "VmLck:") status >> kilobytes;
  }
  return kilobytes * 1024 / Page();
}

// A store of one tensor of several experts, some pages each, that begins `offset` bytes into its file.
class Experts {
 public:
  explicit Experts(int64_t offset) : path_(std::filesystem::temp_directory_path() / ("pinned." + Name())) {
    const int64_t bytes = kExperts * kPages * Page();
    std::ofstream(path_) << std::string(static_cast<size_t>(offset + bytes), 'x');
    store = WeightStore::Open({path_.string()}, {{.name = "experts",
                                                  .offset = static_cast<uint64_t>(offset),
                                                  .bytes = static_cast<uint64_t>(bytes),
                                                  .type = kUint8,
                                                  .shape = {kExperts, bytes / kExperts}}});
  }
  ~Experts() { std::filesystem::remove(path_); }

  std::shared_ptr<const WeightStore> store;

 private:
  static std::string Name() {
    static int number = 0;
    return std::to_string(getpid()) + "." + std::to_string(number++);
  }
  std::filesystem::path path_;
};

void KeepsAnExpert() {
  Experts experts(0);
  const PinnedBytes pinned = PinSlices(*experts.store, {{0, 2, kExperts}}, kGoOn);
  EXPECT(pinned.locked == kPages * Page() && pinned.read == 0, "%lld bytes locked",
         static_cast<long long>(pinned.locked));
  EXPECT(LockedPages() == kPages, "%lld pages locked", static_cast<long long>(LockedPages()));
  // Once more is no more.
  PinSlices(*experts.store, {{0, 2, kExperts}}, kGoOn);
  EXPECT(LockedPages() == kPages, "the same pages");
  experts.store = nullptr;
  EXPECT(LockedPages() == 0, "the mapping has ended");
}

void KeepsPagesThatAreSharedWithOthers() {
  Experts experts(100);
  PinSlices(*experts.store, {{0, 1, kExperts}}, kGoOn);
  EXPECT(LockedPages() == kPages + 1, "it begins and ends within a page");
  PinSlices(*experts.store, {{0, 2, kExperts}}, kGoOn);
  EXPECT(LockedPages() == 2 * kPages + 1, "its neighbour shares one of them");
}

void KeepsATensor() {
  Experts experts(0);
  PinSlices(*experts.store, {{0, 0, 1}}, kGoOn);
  EXPECT(LockedPages() == kExperts * kPages, "all of it");
  // What does not consist of so many pieces serves all alike.
  Experts others(0);
  PinSlices(*others.store, {{0, 1, kExperts + 1}}, kGoOn);
  EXPECT(LockedPages() == 2 * kExperts * kPages, "all of the other one, too");
}

void ReadsWhatItMayNotLock() {
  const rlimit few = {static_cast<rlim_t>(kPages * Page()), static_cast<rlim_t>(kPages * Page())};
  EXPECT(setrlimit(RLIMIT_MEMLOCK, &few) == 0, "the limit is lowered");
  Experts experts(0);
  // Root may lock whatever it wants.
  if (geteuid() == 0) EXPECT(seteuid(65534) == 0, "a user without rights");
  const PinnedBytes pinned =
      PinSlices(*experts.store, {{0, 3, kExperts}, {0, 0, kExperts}, {0, 1, kExperts}}, kGoOn);
  EXPECT(pinned.locked == kPages * Page() && pinned.read == 2 * kPages * Page(), "%lld locked, %lld read",
         static_cast<long long>(pinned.locked), static_cast<long long>(pinned.read));
  EXPECT(LockedPages() == kPages, "the first one");
  if (getuid() == 0) EXPECT(seteuid(0) == 0, "root again");
}

void EndsEarly() {
  Experts experts(0);
  const std::atomic<bool> stop{true};
  const PinnedBytes pinned = PinSlices(*experts.store, {{0, 0, kExperts}}, stop);
  EXPECT(pinned.locked + pinned.read == 0 && LockedPages() == 0, "nothing was done");
}

void RefusesWhatThereIsNot() {
  Experts experts(0);
  for (const TensorSlice& slice : {TensorSlice{0, kExperts, kExperts}, {0, -1, kExperts}, {0, 0, 0}}) {
    bool refused = false;
    try {
      PinSlices(*experts.store, {slice}, kGoOn);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    EXPECT(refused, "matrix %d of %d", static_cast<int>(slice.index), static_cast<int>(slice.count));
  }
}

}  // namespace

int main(int argc, char** argv) {
  return testing::Main(argc, argv,
                       {{"keeps an expert", KeepsAnExpert},
                        {"keeps pages that are shared with others", KeepsPagesThatAreSharedWithOthers},
                        {"keeps a tensor", KeepsATensor},
                        {"reads what it may not lock", ReadsWhatItMayNotLock},
                        {"ends early", EndsEarly},
                        {"refuses what there is not", RefusesWhatThereIsNot}});
}
