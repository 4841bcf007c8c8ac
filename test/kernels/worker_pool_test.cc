// Checks the thread pool of sessions: that every call is made once, whoever comes, and whatever waits.
#include "../../kernels/engine/worker_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cuda/testing.h"

namespace {

using switchyard::WorkerPool;

template <typename Body>
void For(WorkerPool& pool, int64_t count, const Body& body) {
  pool.For(
      count, [](void* state, int64_t i) { (*static_cast<const Body*>(state))(i); }, const_cast<Body*>(&body));
}

// Longer than threads spin for work.
void LetThemSleep() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

// What calls write is read when For() has returned: without a lock, so that ThreadSanitizer sees whether one
// happens before the other.
void CheckLoops(WorkerPool& pool, int loops) {
  std::vector<int64_t> calls(static_cast<size_t>(pool.NumThreads()));
  for (int loop = 0; loop < loops; loop++) {
    const int64_t count = loop % (pool.NumThreads() + 1);
    std::fill(calls.begin(), calls.end(), 0);
    For(pool, count, [&](int64_t i) { calls[static_cast<size_t>(i)] += i + 1; });
    for (int64_t i = 0; i < pool.NumThreads(); i++) {
      const int64_t expected = i < count ? i + 1 : 0;
      EXPECT(calls[static_cast<size_t>(i)] == expected, "call %d of loop %d", static_cast<int>(i), loop);
    }
  }
}

void EveryCallOnce() {
  for (const int threads : {1, 2, 3, 8}) {
    WorkerPool pool(threads, threads);
    EXPECT(pool.NumThreads() == threads, "as many threads as asked for");
    CheckLoops(pool, 2000);
  }
}

void AfterRests() {
  WorkerPool pool(4, 4);
  for (int rest = 0; rest < 50; rest++) {
    LetThemSleep();
    CheckLoops(pool, 5);
  }
}

void NoMoreThanProcessors() {
  EXPECT(WorkerPool(16, 2).NumThreads() == 2, "two processors for 16 threads");
  EXPECT(WorkerPool(2, 16).NumThreads() == 2, "two threads for 16 processors");
  EXPECT(WorkerPool(0, 0).NumThreads() == 1, "the calling thread at least");
}

void OneThatIsPutAside() {
  WorkerPool pool(3, 3);
  std::atomic<int> entered{0};
  std::atomic<bool> goes_on{false};
  std::thread other([&] {
    while (entered < 2) std::this_thread::yield();
    LetThemSleep();
    goes_on = true;
  });
  // Two calls stand still. The third is made all the same, and the loop ends no sooner than they do.
  std::atomic<int> made{0};
  For(pool, 3, [&](int64_t i) {
    if (i < 2) {
      entered++;
      while (!goes_on) std::this_thread::yield();
    }
    made++;
  });
  EXPECT(made == 3 && goes_on, "all three calls are made");
  other.join();
}

void SeveralCallers() {
  WorkerPool pool(4, 4);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; caller++) {
    callers.emplace_back([&] {
      for (int round = 0; round < 20; round++) {
        CheckLoops(pool, 50);
        LetThemSleep();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

void WhatCallsThrow() {
  WorkerPool pool(4, 4);
  for (int round = 0; round < 500; round++) {
    if (round % 50 == 0) LetThemSleep();
    std::atomic<int> made{0};
    std::string thrown;
    try {
      For(pool, 4, [&](int64_t i) {
        made++;
        if (i != round % 4 && round % 3 > 0) return;
        throw std::runtime_error("call " + std::to_string(i));
      });
    } catch (const std::runtime_error& error) {
      thrown = error.what();
    }
    EXPECT(made == 4, "the others are made: %d", made.load());
    EXPECT(round % 3 == 0 ? !thrown.empty() : thrown == "call " + std::to_string(round % 4), "'%s'",
           thrown.c_str());
    CheckLoops(pool, 3);
  }
}

void EndsAtAnyTime() {
  for (int round = 0; round < 100; round++) {
    WorkerPool pool(4, 4);
    if (round % 2 == 0) CheckLoops(pool, round);
    if (round % 3 == 0) LetThemSleep();
  }
  // Threads may be about to look for the next loop, or not have begun.
  for (int round = 0; round < 5000; round++) {
    WorkerPool pool(4, 4);
    CheckLoops(pool, round % 20);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return testing::Main(argc, argv,
                       {{"every call once", EveryCallOnce},
                        {"after rests", AfterRests},
                        {"no more than processors", NoMoreThanProcessors},
                        {"one that is put aside", OneThatIsPutAside},
                        {"several callers", SeveralCallers},
                        {"what calls throw", WhatCallsThrow},
                        {"ends at any time", EndsAtAnyTime}});
}
