// The thread pool of sessions and measurements.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../common/thread_pool.h"

namespace switchyard {

// Threads that get along with others who want the processors. A call belongs to whoever comes: a thread that
// the system has put aside is waited for only if it holds one. Who waits spins for about as long as it takes
// to wake a sleeper and then sleeps, so that the processor goes to whoever has work, above all to the thread
// that is waited for. For() may be called by several threads at once, which take turns.
class WorkerPool final : public ThreadPool {
 public:
  // The calling thread of For() works too. No more threads than `processors` are used, as more would only
  // take turns, and fewer where the system grants no more.
  WorkerPool(int threads, int processors);
  ~WorkerPool() override;
  int NumThreads() const override { return static_cast<int>(threads_.size()) + 1; }
  void For(int64_t count, void (*body)(void* state, int64_t i), void* state) override;

 private:
  // Where one thread waits.
  class alignas(64) Seat {
   public:
    // Returns when ready() is true. Whoever makes it true calls Wake() afterwards; both use sequentially
    // consistent atomics.
    template <typename Ready>
    void Wait(const Ready& ready);
    void Wake();

   private:
    std::atomic<bool> asleep_{false};
    std::mutex mutex_;
    std::condition_variable changed_;
  };

  void Work(Seat& seat);
  void TakeCalls();
  void KeepFailure();

  // The loop at hand, and its next call. A thread takes a call by exchanging the whole, and so never one of
  // another loop than the one it has looked at.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<void (*)(void*, int64_t)> body_{nullptr};
  std::atomic<void*> state_{nullptr};
  alignas(64) std::atomic<int64_t> unfinished_{0};
  std::atomic<bool> closing_{false};
  std::mutex failure_mutex_;
  std::exception_ptr failure_;  // of a call of the loop at hand

  std::mutex turn_;
  Seat caller_;
  std::unique_ptr<Seat[]> seats_;
  std::atomic<int> seated_{0};
  std::vector<std::thread> threads_;
};

}  // namespace switchyard
