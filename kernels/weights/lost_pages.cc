#include "lost_pages.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <mutex>
#include <vector>

namespace switchyard {
namespace {

struct Range {
  uintptr_t begin;
  size_t bytes;
  std::atomic<bool>* lost;
};

// A lock that a signal handler may take: whoever holds it reads from no guarded memory, so no fault waits for
// its own thread.
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
struct sigaction previous;

bool MakeZeros(uintptr_t address) {
  std::lock_guard<SpinLock> lock(ranges_lock);
  for (const Range& range : *ranges) {
    if (address < range.begin || address - range.begin >= range.bytes) continue;
    // Another thread may have been here between the fault and the lock.
    if (range.lost->load()) return true;
    void* memory = reinterpret_cast<void*>(range.begin);
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    if (mmap(memory, range.bytes, PROT_READ, kFlags, -1, 0) == MAP_FAILED) return false;
    range.lost->store(true);
    return true;
  }
  return false;
}

void PassOn(int signal, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    // Again, and now it ends the process: by the read itself, or sent anew where somebody sent it.
    sigaction(SIGBUS, &previous, nullptr);
    if (info->si_code <= 0) raise(SIGBUS);
  }
}

void OnBusError(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  // A signal that somebody sent may find this thread in the middle of anything; only a fault has an address.
  const bool is_fault = info->si_code > 0;
  if (!is_fault || !MakeZeros(reinterpret_cast<uintptr_t>(info->si_addr))) PassOn(signal, info, context);
  errno = error;
}

void Install() {
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &previous);
}

}  // namespace

void GuardPages(const void* memory, size_t bytes, std::atomic<bool>* lost) {
  static const bool installed = (ranges = new std::vector<Range>, Install(), true);
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
