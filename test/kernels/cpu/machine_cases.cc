// Working memory, the choice of instruction sets, and what the machine could do.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "../../../kernels/cpu/machine.h"
#include "../../../kernels/cpu/parallel.h"
#include "../../../kernels/cpu/workspace.h"
#include "testing.h"

namespace switchyard::cpu {
namespace {

void WorkspaceReuse() {
  Workspace workspace;
  for (int round = 0; round < 3; ++round) {
    workspace.Reset();
    char* a = workspace.Take<char>(100);
    double* b = workspace.Take<double>(1000);
    const Workspace::Mark mark = workspace.mark();
    float* c = workspace.Take<float>(5000);
    std::memset(a, 1, 100);
    std::fill_n(b, 1000, 2.0);
    std::fill_n(c, 5000, 3.0f);
    workspace.Rewind(mark);
    if (workspace.Take<float>(5000) != c) Fail("rewinding does not give the memory back");
    if (a[99] != 1 || b[0] != 2.0 || b[999] != 2.0 || c[0] != 3.0f) Fail("blocks overlap");
    for (const void* p : {static_cast<void*>(a), static_cast<void*>(b), static_cast<void*>(c)}) {
      if (reinterpret_cast<uintptr_t>(p) % 64 != 0) Fail("%p is not aligned to 64 bytes", p);
    }
  }
  const size_t settled = workspace.capacity();
  workspace.Reset();
  workspace.Take<char>(20000);
  if (workspace.capacity() != settled) Fail("memory grew although it was large enough");
  Workspace moved(std::move(workspace));
  if (moved.capacity() != settled) Fail("moving lost the memory");
}

// Makes the calls one after the other, the last one first.
class BackwardPool : public ThreadPool {
 public:
  explicit BackwardPool(int threads) : threads_(threads) {}
  int NumThreads() const override { return threads_; }
  void For(int64_t count, void (*body)(void*, int64_t), void* state) override {
    while (--count >= 0) body(state, count);
  }

 private:
  int threads_;
};

void ItemsInOrder() {
  for (const FetchFrom from : {FetchFrom::kStart, FetchFrom::kBothEnds}) {
    for (const int threads : {1, 2, 3, 8}) {
      for (const int64_t count : {0, 1, 2, 7, 1000}) {
        TestPool pool(threads);
        std::vector<std::atomic<int>> taken(static_cast<size_t>(count));
        std::atomic<bool> is_next_known{true};
        ParallelItems(
            pool, count,
            [&](int64_t, int64_t item, int64_t next) {
              ++taken[static_cast<size_t>(item)];
              if (next < -1 || next >= count || next == item) is_next_known = false;
            },
            from);
        if (!is_next_known) Fail("the next of %lld items is none of them", static_cast<long long>(count));
        if (std::any_of(taken.begin(), taken.end(), [](const auto& times) { return times != 1; }))
          Fail("not every one of %lld items was taken once", static_cast<long long>(count));
      }
    }
    // The second of two threads comes first, and takes all: from the end, where it starts there.
    BackwardPool pool(2);
    std::vector<int64_t> items, following;
    ParallelItems(
        pool, 4,
        [&](int64_t, int64_t item, int64_t next) {
          items.push_back(item);
          following.push_back(next);
        },
        from);
    const bool both = from == FetchFrom::kBothEnds;
    if (items != (both ? std::vector<int64_t>{3, 2, 1, 0} : std::vector<int64_t>{0, 1, 2, 3}))
      Fail("items are fetched in another order from %s", both ? "both ends" : "the start");
    if (following != (both ? std::vector<int64_t>{2, 1, 0, -1} : std::vector<int64_t>{2, 3, -1, -1}))
      Fail("another item is said to come next from %s", both ? "both ends" : "the start");
  }
}

void IsaSelection() {
  const std::vector<const char*> names = AllIsas();
  if (names.empty() || std::strcmp(names.back(), "portable") != 0) Fail("the portable path is missing");
  for (const char* name : names) {
    if (!SelectIsa(name) || std::strcmp(IsaName(), name) != 0) Fail("cannot select %s", name);
  }
  SelectIsa(names[0]);
  if (SelectIsa("sse9") || std::strcmp(IsaName(), names[0]) != 0)
    Fail("an unknown name changed the selection");
}

void MachineLimits() {
  TestPool pool(2);
  std::vector<char> buffer(8 << 20, 1);
  const ReadBandwidth bandwidth =
      MeasureReadBandwidth(buffer.data(), static_cast<int64_t>(buffer.size()), 0.02, pool);
  if (!(bandwidth.gigabytes_per_second > 0))
    Fail("read bandwidth is %g GB/s", bandwidth.gigabytes_per_second);
  for (const Precision precision : kAllPrecisions) {
    const double gflops = MeasureFlops(precision, 0.02, pool);
    if (!(gflops > 0)) Fail("speed is %g GFLOP/s", gflops);
  }
}

}  // namespace

std::vector<Group> MachineGroups() {
  return {
      {"workspace aligns, rewinds and settles", WorkspaceReuse},
      {"items are taken once, from the start or both ends", ItemsInOrder},
      {"instruction sets are selected by name", IsaSelection},
      {"machine limits are measured", MachineLimits},
  };
}

}  // namespace switchyard::cpu
