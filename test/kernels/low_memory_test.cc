// Checks that memory that is refused, at whichever of its requests, ends what was asked for and nothing else:
// neither the process nor what is done afterwards.
#include <cstdlib>
#include <new>
#include <string>

#include "../../kernels/engine/worker_pool.h"
#include "../../kernels/ops/session_context.h"
#include "../../kernels/weights/expert_memory.h"
#include "cuda/testing.h"

namespace {

// Of this thread, until one is refused; 0: none is.
thread_local int requests_left = 0;

bool IsRefused() { return requests_left > 0 && --requests_left == 0; }

void* Request(size_t bytes, size_t alignment) {
  if (IsRefused()) return nullptr;
  return std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
}

void* OrThrow(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

constexpr size_t kPlain = alignof(std::max_align_t);

}  // namespace

void* operator new(size_t bytes) { return OrThrow(Request(bytes, kPlain)); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return OrThrow(Request(bytes, static_cast<size_t>(alignment)));
}
void* operator new(size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return Request(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

using switchyard::ExpertMemory;
using switchyard::ExpertRefs;
using switchyard::TensorEntry;
using switchyard::WeightRef;
using switchyard::WeightStore;
using switchyard::WorkerPool;
using switchyard::ops::WorkspacePool;

// Calls body() again and again, each time with a later request of memory refused, until none is.
template <typename Body>
void RefuseEach(const Body& body) {
  for (int refused = 1;; refused++) {
    requests_left = refused;
    try {
      body();
    } catch (const std::bad_alloc&) {
      // As it should be, unless there was a way without.
    }
    const bool is_over = requests_left > 0;
    requests_left = 0;
    if (is_over) return;
    EXPECT(refused < 10'000, "an end");
  }
}

void ThreadsOfAPool() {
  RefuseEach([] {
    WorkerPool pool(4, 4);
    std::atomic<int64_t> calls{0};
    pool.For(
        pool.NumThreads(), [](void* state, int64_t) { ++*static_cast<std::atomic<int64_t>*>(state); },
        &calls);
    EXPECT(calls == pool.NumThreads(), "a loop has all of its calls");
  });
}

void ScratchOfARun() {
  RefuseEach([] {
    WorkspacePool pool;
    for (int run = 0; run < 3; run++) {
      WorkspacePool::Lease lease(pool);
      // More than there was: a further block each, which are made one when nobody uses them.
      for (int64_t i = 1; i < 5; i++) (*lease).Take<char>((run + 1) * 1000 * i)[0] = 1;
    }
  });
}

void ALayerOfExperts() {
  constexpr int64_t kSize = 16;
  std::vector<TensorEntry> entries;
  for (int i = 0; i < 12; i++) {
    entries.push_back({.name = "tensor " + std::to_string(i),
                       .bytes = 2 * kSize * kSize,
                       .type = static_cast<int32_t>(switchyard::DType::kBFloat16),
                       .shape = {kSize, kSize}});
  }
  const auto store = WeightStore::Open({""}, std::move(entries));
  const auto whole = [&](int64_t handle) {
    return WeightRef{.values = &store->Get(handle), .rows = kSize, .cols = kSize, .stride = kSize};
  };
  std::vector<ExpertRefs> experts;
  for (int64_t i = 0; i < 4; i++) experts.push_back({whole(3 * i), whole(3 * i + 1), whole(3 * i + 2)});
  const std::atomic<bool> goes_on{false};
  RefuseEach([&] {
    ExpertMemory memory(store, {.max_bytes = int64_t{1} << 20});
    try {
      memory.Require(experts);
    } catch (const std::bad_alloc&) {
      EXPECT(memory.Pin({{3, 1}}, 0, goes_on) == 0, "a layer that could not be made is none");
    }
    ExpertMemory::Layer& layer = memory.Require(experts);
    EXPECT(memory.Pin({{3, 1}}, 0, goes_on) <= 1, "one expert");
    const int32_t wanted = 2, next = 3;
    ExpertMemory::Lease lease(memory, layer, &wanted, 1);
    lease.Expect(layer, &next, 1);
  });
}

}  // namespace

int main(int argc, char** argv) {
  return testing::Main(argc, argv,
                       {{"threads of a pool", ThreadsOfAPool},
                        {"scratch of a run", ScratchOfARun},
                        {"a layer of experts", ALayerOfExperts}});
}
