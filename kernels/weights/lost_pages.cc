#include "lost_pages.h"

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <vector>

#include "../platform/pages.h"
#include "../platform/read_faults.h"

namespace switchyard {
namespace {

struct Range {
  uintptr_t begin;
  size_t bytes;
  std::atomic<bool>* lost;
};

// A lock that the handler of a fault may take: whoever holds it reads from no guarded memory, so no fault
// waits for its own thread.
class SpinLock {
 public:
  void lock() {
    while (taken_.test_and_set(std::memory_order_acquire)) {
    }
  }
  void unlock() { taken_.clear(std::memory_order_release); }

 private:
  std::atomic_flag taken_ = ATOMIC_FLAG_INIT;
};

// Both are never destroyed: threads may read while the process exits.
SpinLock ranges_lock;
std::vector<Range>* ranges = nullptr;

bool MakeZeros(uintptr_t address) {
  std::lock_guard<SpinLock> lock(ranges_lock);
  for (const Range& range : *ranges) {
    if (address < range.begin || address - range.begin >= range.bytes) continue;
    // Another thread may have been here between the fault and the lock.
    if (range.lost->load()) return true;
    if (platform::MapZeros(reinterpret_cast<void*>(range.begin), range.bytes) == nullptr) return false;
    range.lost->store(true);
    return true;
  }
  return false;
}

}  // namespace

void GuardPages(const void* memory, size_t bytes, std::atomic<bool>* lost) {
  static const bool installed =
      (ranges = new std::vector<Range>, platform::HandleReadFaults(MakeZeros), true);
  (void)installed;
  std::lock_guard<SpinLock> lock(ranges_lock);
  ranges->push_back({reinterpret_cast<uintptr_t>(memory), bytes, lost});
}

void UnguardPages(const void* memory) {
  std::lock_guard<SpinLock> lock(ranges_lock);
  std::erase_if(*ranges,
                [&](const Range& range) { return range.begin == reinterpret_cast<uintptr_t>(memory); });
}

}  // namespace switchyard
