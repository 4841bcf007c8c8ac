// The bench programs' threads.
#pragma once
#include <atomic>
#include <thread>
#include <vector>

#include "../kernels.h"

namespace switchyard::cpu {

// Threads that spin for work, as an inference engine's do.
class SpinPool : public ThreadPool {
 public:
  explicit SpinPool(int threads) : threads_(threads) {
    for (int t = 1; t < threads; ++t) workers_.emplace_back([this] { Work(); });
  }
  ~SpinPool() override {
    stop_ = true;
    ++generation_;
    for (std::thread& worker : workers_) worker.join();
  }
  int NumThreads() const override { return threads_; }
  void For(int64_t count, void (*body)(void*, int64_t), void* state) override {
    body_ = body;
    state_ = state;
    count_ = count;
    next_ = 0;
    busy_ = threads_ - 1;
    ++generation_;
    Drain();
    while (busy_ != 0) __builtin_ia32_pause();
  }

 private:
  void Drain() {
    for (int64_t i; (i = next_.fetch_add(1)) < count_;) body_(state_, i);
  }
  void Work() {
    int seen = 0;
    for (;;) {
      while (generation_ == seen) __builtin_ia32_pause();
      seen = generation_;
      if (stop_) return;
      Drain();
      --busy_;
    }
  }

  int threads_;
  std::vector<std::thread> workers_;
  std::atomic<int> generation_{0}, busy_{0};
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> next_{0};
  void (*body_)(void*, int64_t) = nullptr;
  void* state_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace switchyard::cpu
