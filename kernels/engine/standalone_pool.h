// A thread pool for kernels that run outside a session.
#pragma once
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "../cpu/kernels.h"

namespace switchyard::ops {

// The calling thread works too, so `threads` - 1 are started.
class StandalonePool final : public ThreadPool {
 public:
  explicit StandalonePool(int threads);
  ~StandalonePool() override;
  int NumThreads() const override { return static_cast<int>(threads_.size()) + 1; }
  void For(int64_t count, void (*body)(void* state, int64_t i), void* state) override;

 private:
  struct Loop {
    void (*body)(void*, int64_t) = nullptr;
    void* state = nullptr;
    int64_t count = 0, next = 0, done = 0;
  };
  void Work();
  void TakeTurns(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable changed_;
  Loop loop_;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace switchyard::ops
