#include "worker_pool.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "../common/start_threads.h"

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;

// Loops of a pass follow one another faster than this, and waking a sleeper takes about as long.
constexpr std::chrono::microseconds kSpinTime{20};
constexpr int kLooksBetweenClocks = 32;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A ticket is the number of a loop, how many calls it has, and which is next.
constexpr int kCallBits = 12;
constexpr uint64_t kCallMask = (uint64_t{1} << kCallBits) - 1;
constexpr int kMostThreads = kCallMask;

uint64_t LoopOf(uint64_t ticket) { return ticket >> (2 * kCallBits); }
uint64_t CountOf(uint64_t ticket) { return ticket >> kCallBits & kCallMask; }
uint64_t NextOf(uint64_t ticket) { return ticket & kCallMask; }
uint64_t FirstTicket(uint64_t loop, int64_t count) {
  return (loop << kCallBits | static_cast<uint64_t>(count)) << kCallBits;
}

template <typename Ready>
bool Spin(const Ready& ready) {
  const Clock::time_point end = Clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kLooksBetweenClocks; ++i) {
      if (ready()) return true;
      Pause();
    }
  } while (Clock::now() < end);
  return false;
}

}  // namespace

template <typename Ready>
void WorkerPool::Seat::Wait(const Ready& ready) {
  if (Spin(ready)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  asleep_ = true;
  changed_.wait(lock, ready);
  asleep_ = false;
}

void WorkerPool::Seat::Wake() {
  if (!asleep_) return;
  // Whoever has said that it sleeps, and has looked in vain, waits by the time that the lock is free.
  { std::lock_guard<std::mutex> lock(mutex_); }
  changed_.notify_one();
}

WorkerPool::WorkerPool(int threads, int processors) {
  const int wanted = std::clamp(std::min(threads, processors), 1, kMostThreads) - 1;
  seats_ = std::make_unique<Seat[]>(static_cast<size_t>(wanted));
  threads_ = StartThreads(wanted, [this] { Work(seats_[static_cast<size_t>(seated_++)]); });
}

WorkerPool::~WorkerPool() {
  closing_ = true;
  ticket_ = FirstTicket(LoopOf(ticket_) + 1, 0);
  for (size_t i = 0; i < threads_.size(); ++i) seats_[i].Wake();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::For(int64_t count, void (*body)(void* state, int64_t i), void* state) {
  if (count <= 1 || threads_.empty()) {
    for (int64_t i = 0; i < count; ++i) body(state, i);
    return;
  }
  std::lock_guard<std::mutex> turn(turn_);
  unfinished_ = count;
  body_ = body;
  state_ = state;
  ticket_ = FirstTicket(LoopOf(ticket_) + 1, count);
  for (int64_t i = 0; i < count - 1; ++i) seats_[static_cast<size_t>(i)].Wake();
  TakeCalls();
  caller_.Wait([this] { return unfinished_ == 0; });
  if (failure_ != nullptr) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void WorkerPool::KeepFailure() {
  std::lock_guard<std::mutex> lock(failure_mutex_);
  if (failure_ == nullptr) failure_ = std::current_exception();
}

void WorkerPool::TakeCalls() {
  uint64_t ticket = ticket_;
  while (NextOf(ticket) < CountOf(ticket)) {
    // They belong to this ticket if it can be exchanged: until its call is done there is no other loop.
    auto* const body = body_.load(std::memory_order_relaxed);
    void* const state = state_.load(std::memory_order_relaxed);
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1)) continue;
    try {
      body(state, static_cast<int64_t>(NextOf(ticket)));
    } catch (...) {
      KeepFailure();
    }
    if (--unfinished_ == 0) caller_.Wake();
    ticket = ticket_;
  }
}

void WorkerPool::Work(Seat& seat) {
  for (;;) {
    // In this order: who has seen the number that closing takes sees `closing_` too, which is set before it.
    const uint64_t seen = LoopOf(ticket_);
    if (closing_) return;
    TakeCalls();
    seat.Wait([&] { return LoopOf(ticket_) != seen; });
  }
}

}  // namespace switchyard
