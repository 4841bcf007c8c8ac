// The thread pool that kernels run on.
#pragma once
#include <cstdint>

namespace switchyard {

// For() calls body(state, i) once for each i in [0, count), possibly in parallel, and returns when all are
// done; what one of them throws, it throws then. `count` is at most NumThreads(). Kernels must not nest
// calls.
class ThreadPool {
 public:
  virtual ~ThreadPool() = default;
  virtual int NumThreads() const = 0;
  virtual void For(int64_t count, void (*body)(void* state, int64_t i), void* state) = 0;
};

}  // namespace switchyard
