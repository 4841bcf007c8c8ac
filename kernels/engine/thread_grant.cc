#include "thread_grant.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "../common/start_threads.h"

namespace switchyard::ops {
namespace {

// Of a session: ONNX Runtime's and our own.
constexpr int kPools = 2;
// For jobs, prefetches and uploads, which make do with fewer but not with none.
constexpr int kSpare = 3;

}  // namespace

int GrantThreads(int wanted) {
  std::mutex mutex;
  std::condition_variable all_counted;
  bool counted = false;
  std::vector<std::thread> threads = StartThreads(kPools * (wanted - 1) + kSpare, [&] {
    std::unique_lock<std::mutex> lock(mutex);
    all_counted.wait(lock, [&] { return counted; });
  });
  {
    std::lock_guard<std::mutex> lock(mutex);
    counted = true;
  }
  all_counted.notify_all();
  for (std::thread& thread : threads) thread.join();
  return std::clamp(1 + (static_cast<int>(threads.size()) - kSpare) / kPools, 1, std::max(1, wanted));
}

}  // namespace switchyard::ops
