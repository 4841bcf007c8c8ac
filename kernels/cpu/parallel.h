// Dynamic scheduling on top of ThreadPool::For.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>

#include "kernels.h"

namespace switchyard::cpu {

// Where threads fetch their items: all at the start, or every other thread at the end, so that what is there
// is done while the others are at the start.
enum class FetchFrom { kStart, kBothEnds };

// Calls body(slot, item) once for each item in [0, count), a number of 32 bits. Threads fetch the next item,
// in ascending order from the start and in descending order from the end, from a shared counter, so they
// finish together whatever the items cost. `slot` is below pool.NumThreads() and no two concurrent calls
// share it: it picks per-thread scratch.
template <typename Body>
void ParallelItems(ThreadPool& pool, int64_t count, const Body& body, FetchFrom from = FetchFrom::kStart) {
  const int64_t slots = std::min<int64_t>(pool.NumThreads(), count);
  if (slots <= 1) {
    for (int64_t item = 0; item < count; ++item) body(int64_t{0}, item);
    return;
  }
  struct State {
    const Body* body;
    uint64_t count;
    FetchFrom from;
    std::atomic<uint64_t> fetched;  // from the end in the upper half, from the start in the lower one
  } state{&body, static_cast<uint64_t>(count), from, 0};
  pool.For(
      slots,
      [](void* opaque, int64_t slot) {
        State& shared = *static_cast<State*>(opaque);
        const bool at_end = shared.from == FetchFrom::kBothEnds && slot % 2 == 1;
        for (;;) {
          const uint64_t fetched =
              shared.fetched.fetch_add(at_end ? uint64_t{1} << 32 : 1, std::memory_order_relaxed);
          const uint64_t from_end = fetched >> 32;
          const uint64_t from_start = fetched & 0xffffffff;
          if (from_end + from_start >= shared.count) return;
          (*shared.body)(slot, static_cast<int64_t>(at_end ? shared.count - 1 - from_end : from_start));
        }
      },
      &state);
}

}  // namespace switchyard::cpu
