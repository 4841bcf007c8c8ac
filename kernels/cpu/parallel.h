// Dynamic scheduling on top of ThreadPool::For.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>

#include "kernels.h"

namespace switchyard::cpu {

// Calls body(slot, item) once for each item in [0, count). Threads fetch items in ascending order from a
// shared counter, so they finish together whatever the items cost. `slot` is below pool.NumThreads() and no
// two concurrent calls share it: it picks per-thread scratch.
template <typename Body>
void ParallelItems(ThreadPool& pool, int64_t count, const Body& body) {
  const int64_t slots = std::min<int64_t>(pool.NumThreads(), count);
  if (slots <= 1) {
    for (int64_t item = 0; item < count; ++item) body(int64_t{0}, item);
    return;
  }
  struct State {
    const Body* body;
    int64_t count;
    std::atomic<int64_t> next;
  } state{&body, count, 0};
  pool.For(
      slots,
      [](void* opaque, int64_t slot) {
        State& shared = *static_cast<State*>(opaque);
        for (;;) {
          const int64_t item = shared.next.fetch_add(1, std::memory_order_relaxed);
          if (item >= shared.count) return;
          (*shared.body)(slot, item);
        }
      },
      &state);
}

}  // namespace switchyard::cpu
