// Dynamic scheduling on top of ThreadPool::For.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <type_traits>

#include "kernels.h"

namespace switchyard::cpu {

// Where threads fetch their items: all at the start, or every other thread at the end, so that what is there
// is done while the others are at the start.
enum class FetchFrom { kStart, kBothEnds };

// Tells a body of an item of `count`, and of the next one if it asks.
template <typename Body>
void CallWithItem(const Body& body, int64_t slot, int64_t item, int64_t next, int64_t count) {
  if constexpr (std::is_invocable_v<const Body&, int64_t, int64_t, int64_t>) {
    body(slot, item, next >= 0 && next < count ? next : -1);
  } else {
    body(slot, item);
  }
}

// Calls body(slot, item) once for each item in [0, count), a number of 32 bits. Threads fetch the next item,
// in ascending order from the start and in descending order from the end, from a shared counter, so they
// finish together whatever the items cost. `slot` is below pool.NumThreads() and no two concurrent calls
// share it: it picks per-thread scratch. A body that takes a third number is told which item the thread will
// take next if all threads are equally fast, or -1.
template <typename Body>
void ParallelItems(ThreadPool& pool, int64_t count, const Body& body, FetchFrom from = FetchFrom::kStart) {
  const int64_t slots = std::min<int64_t>(pool.NumThreads(), count);
  if (slots <= 1) {
    for (int64_t item = 0; item < count; ++item) CallWithItem(body, 0, item, item + 1, count);
    return;
  }
  struct State {
    const Body* body;
    int64_t slots;
    uint64_t count;
    FetchFrom from;
    std::atomic<uint64_t> fetched;  // from the end in the upper half, from the start in the lower one
  } state{&body, slots, static_cast<uint64_t>(count), from, 0};
  pool.For(
      slots,
      [](void* opaque, int64_t slot) {
        State& shared = *static_cast<State*>(opaque);
        const bool both_ends = shared.from == FetchFrom::kBothEnds;
        const bool at_end = both_ends && slot % 2 == 1;
        // Threads that fetch from the same end.
        const int64_t side = !both_ends ? shared.slots : at_end ? shared.slots / 2 : (shared.slots + 1) / 2;
        const int64_t items = static_cast<int64_t>(shared.count);
        for (;;) {
          const uint64_t fetched =
              shared.fetched.fetch_add(at_end ? uint64_t{1} << 32 : 1, std::memory_order_relaxed);
          const uint64_t from_end = fetched >> 32;
          const uint64_t from_start = fetched & 0xffffffff;
          if (from_end + from_start >= shared.count) return;
          const auto item = static_cast<int64_t>(at_end ? shared.count - 1 - from_end : from_start);
          CallWithItem(*shared.body, slot, item, at_end ? item - side : item + side, items);
        }
      },
      &state);
}

}  // namespace switchyard::cpu
