// Runs a grid on the CPU: blocks one after the other, a block's threads as fibers that switch only where CUDA
// threads wait for one another, and serve block after block: to start one costs two calls of the system.
// Shared memory starts as NaNs; a barrier that not every thread reaches ends
// the program with a message.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

struct Index {
  unsigned x, y, z;
};
inline Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kSlotBytes = 32;

inline int shared_memory_limit = 163 * 1024;  // what cudaDevAttrMaxSharedMemoryPerBlockOptin reports
inline int compute_capability_major = 8;
inline int multiprocessors = 2;  // few, so that blocks have several things to do one after the other
inline thread_local bool recording = false;  // what this thread launches is noted, not executed
inline int kernel_threads_limit = 1024;      // what cudaFuncGetAttributes reports as a block's most threads
inline bool dependent = false;               // the grid may have started before the one before it ended
inline std::map<const void*, size_t> shared_memory_granted;
inline int64_t bank_conflicts = 0;  // matrix loads whose eight rows met in a bank
inline unsigned char* shared_memory = nullptr;

[[noreturn]] inline void Fail(const char* message) {
  std::fprintf(stderr, "emulator: block (%u, %u) thread %u: %s\n", blockIdx.x, blockIdx.y, threadIdx.x,
               message);
  std::fflush(nullptr);
  std::_Exit(3);  // a fiber's stack is not to be freed while it is in use
}

// Asynchronous copies land only when the thread that started them waits for their group.
struct Copy {
  void* to;
  const void* from;
  bool valid;
};
using CopyGroup = std::vector<Copy>;

struct Fiber {
  std::unique_ptr<unsigned char[]> stack{new unsigned char[kStackBytes]};
  ucontext_t start;
  jmp_buf state;
  bool started = false;  // it waits for the next block in between
  bool done = true;
  bool waited = false;  // for the kernel before
  CopyGroup open_copies;
  std::deque<CopyGroup> copy_groups;
};

// Values the lanes of a warp hand each other; two buffers, since the fastest lane can be one exchange ahead.
using Slots = std::array<std::array<unsigned char, kSlotBytes>, kWarp>;
struct Warp {
  std::array<Slots, 2> slots;
  int arrived = 0;
  unsigned generation = 0;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  int arrived = 0;
  unsigned generation = 0;
  int64_t progress = 0;
  jmp_buf scheduler;
  const std::function<void()>* body = nullptr;
};
inline Block block;

inline Fiber& Current() { return block.fibers[threadIdx.x]; }
inline int Lane() { return static_cast<int>(threadIdx.x % kWarp); }

inline void Yield() {
  if (_setjmp(Current().state) == 0) _longjmp(block.scheduler, 1);
}

inline void BlockBarrier() {
  const unsigned mine = block.generation;
  if (++block.arrived == static_cast<int>(blockDim.x)) {
    block.arrived = 0;
    ++block.generation;
    ++block.progress;
    return;
  }
  while (block.generation == mine) Yield();
}

// Every lane gives a value and sees all 32, until its next exchange.
template <typename T>
const Slots& Give(const T& value) {
  static_assert(sizeof(T) <= kSlotBytes);
  Warp& warp = block.warps[threadIdx.x / kWarp];
  const unsigned mine = warp.generation;
  auto& slots = warp.slots[mine % 2];
  std::memcpy(slots[Lane()].data(), &value, sizeof(T));
  if (++warp.arrived == kWarp) {
    warp.arrived = 0;
    ++warp.generation;
    ++block.progress;
  }
  while (warp.generation == mine) Yield();
  return slots;
}

// Every lane gives a value and receives that of `lane`.
template <typename T>
T ExchangeWith(const T& value, int lane) {
  T theirs;
  std::memcpy(&theirs, Give(value)[lane].data(), sizeof(T));
  return theirs;
}

// Every lane gives a value and receives all 32.
template <typename T>
std::array<T, kWarp> Exchange(const T& value) {
  const Slots& slots = Give(value);
  std::array<T, kWarp> all;
  for (int lane = 0; lane < kWarp; ++lane) std::memcpy(&all[lane], slots[lane].data(), sizeof(T));
  return all;
}

// One thread of one block, from its first statement to its last.
inline void RunThread() {
  (*block.body)();
  if (dependent && !Current().waited) Fail("ended without waiting for the kernel before");
  for (const CopyGroup& group : Current().copy_groups) {
    if (!group.empty()) Fail("ended with asynchronous copies it never waited for");
  }
  if (!Current().open_copies.empty()) Fail("ended with asynchronous copies it never committed");
  Current().done = true;
  ++block.progress;
}

inline void FiberMain() {
  for (;;) {
    RunThread();
    Yield();
  }
}

inline void Resume(Fiber& fiber) {
  if (_setjmp(block.scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.state, 1);
  fiber.started = true;
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = kStackBytes;
  fiber.start.uc_link = nullptr;
  makecontext(&fiber.start, FiberMain, 0);
  setcontext(&fiber.start);
}

inline void RunBlock() {
  for (unsigned t = 0; t < blockDim.x; ++t) {
    Fiber& fiber = block.fibers[t];
    fiber.done = fiber.waited = false;
    fiber.open_copies.clear();
    fiber.copy_groups.clear();
  }
  for (bool running = true; running;) {
    running = false;
    const int64_t before = block.progress;
    for (unsigned t = 0; t < blockDim.x; ++t) {
      if (block.fibers[t].done) continue;
      running = true;
      threadIdx.x = t;
      Resume(block.fibers[t]);
    }
    if (running && block.progress == before) Fail("waits at a barrier that not every thread reaches");
  }
}

// One grid runs at a time, whatever threads launch them.
inline std::recursive_mutex& LaunchMutex() {
  static auto* mutex = new std::recursive_mutex;
  return *mutex;
}

inline void RunGrid(const dim3& grid, unsigned threads, size_t shared_bytes,
                    const std::function<void()>& body) {
  std::vector<unsigned char> shared(shared_bytes + 128);
  shared_memory = shared.data() + (128 - reinterpret_cast<uintptr_t>(shared.data()) % 128);
  blockDim = {threads, 1, 1};
  gridDim = {grid.x, grid.y, grid.z};
  if (block.fibers.size() < threads) block.fibers.resize(threads);
  block.warps.assign((threads + kWarp - 1) / kWarp, {});
  block.arrived = 0;
  block.body = &body;
  for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
      std::memset(shared_memory, 0xff, shared_bytes);
      RunBlock();
    }
  }
}

}  // namespace emulator
