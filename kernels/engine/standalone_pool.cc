#include "standalone_pool.h"

#include "../common/start_threads.h"

namespace switchyard::ops {

StandalonePool::StandalonePool(int threads) : threads_(StartThreads(threads - 1, [this] { Work(); })) {}

StandalonePool::~StandalonePool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void StandalonePool::For(int64_t count, void (*body)(void* state, int64_t i), void* state) {
  std::unique_lock<std::mutex> lock(mutex_);
  loop_ = {body, state, count, 0, 0};
  changed_.notify_all();
  TakeTurns(lock);
  changed_.wait(lock, [&] { return loop_.done == loop_.count; });
}

void StandalonePool::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!closing_) {
    TakeTurns(lock);
    changed_.wait(lock, [&] { return closing_ || loop_.next < loop_.count; });
  }
}

void StandalonePool::TakeTurns(std::unique_lock<std::mutex>& lock) {
  while (loop_.next < loop_.count) {
    const Loop loop = loop_;
    loop_.next++;
    lock.unlock();
    loop.body(loop.state, loop.next);
    lock.lock();
    if (++loop_.done == loop_.count) changed_.notify_all();
  }
}

}  // namespace switchyard::ops
