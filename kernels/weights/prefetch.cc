#include "prefetch.h"

#include <algorithm>
#include <thread>

#include "../common/out_of_memory.h"
#include "../common/start_threads.h"
#include "../platform/pages.h"
#include "panel_copy.h"

namespace switchyard {
namespace {

// Bytes between two looks at the stop flag: some milliseconds from the page cache.
constexpr size_t kStepBytes = 16 << 20;

struct Range {
  uintptr_t begin, end;
};

// Page-aligned ranges of the tensors, neighbours joined, in the order of their addresses.
std::vector<Range> PageRanges(const WeightStore& store, const std::vector<int64_t>& handles, uintptr_t page) {
  std::vector<Range> ranges;
  const auto add = [&](const StoredTensor& tensor) {
    const auto begin = reinterpret_cast<uintptr_t>(tensor.data);
    if (tensor.data != nullptr && tensor.bytes > 0)
      ranges.push_back({begin / page * page, begin + tensor.bytes});
  };
  for (int64_t handle : handles) {
    add(store.Get(handle));
    for (int64_t part : store.Get(handle).parts) add(store.Get(part));
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::vector<Range> joined;
  for (const Range& range : ranges) {
    if (!joined.empty() && range.begin <= joined.back().end) {
      joined.back().end = std::max(joined.back().end, range.end);
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

// Calls step(begin, end) along the ranges, so that as few large pages as can be are cut.
template <typename Step>
void Walk(const std::vector<Range>& ranges, size_t step_bytes, const std::atomic<bool>& stop,
          const Step& step) {
  for (const Range& range : ranges) {
    for (uintptr_t at = range.begin; at < range.end;) {
      if (stop.load(std::memory_order_relaxed)) return;
      const uintptr_t next = std::min<uintptr_t>((at / step_bytes + 1) * step_bytes, range.end);
      step(at, next);
      at = next;
    }
  }
}

// Bytes of the cache lines that so many bytes take.
size_t InLines(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Takes the tensors that somebody multiplies with in row panels out of `handles`, with memory for them: one
// stretch, as large pages do not end where tensors do. None where that cannot be had.
struct PanelWork {
  std::vector<const StoredTensor*> tensors;
  std::byte* memory = nullptr;
};
PanelWork TakePanelWork(const WeightStore& store, std::vector<int64_t>& handles) {
  PanelWork work;
  size_t bytes = 0;
  std::vector<int64_t> others;
  for (const int64_t handle : handles) {
    const StoredTensor& tensor = store.Get(handle);
    if (tensor.panels == nullptr || !tensor.panels->wanted) {
      others.push_back(handle);
    } else if (tensor.panels->complete == nullptr) {
      work.tensors.push_back(&tensor);
      bytes += InLines(tensor.bytes);
    }
  }
  if (work.tensors.empty()) return work;
  try {
    work.memory = store.TakeMemory(bytes);
  } catch (const OutOfMemory&) {
    return {};
  }
  handles = std::move(others);
  return work;
}

}  // namespace

void StartPrefetch(std::shared_ptr<const WeightStore> store, std::vector<int64_t> handles, WeightPages pages,
                   std::shared_ptr<const std::atomic<bool>> stop) {
  PanelWork panels;
  if (pages == WeightPages::kCopied) panels = TakePanelWork(*store, handles);
  const uintptr_t page = platform::PageSize();
  std::vector<Range> ranges = PageRanges(*store, handles, page);
  const auto walk = [=, store = std::move(store), ranges = std::move(ranges), stop = std::move(stop)] {
    std::byte* memory = panels.memory;
    for (const StoredTensor* tensor : panels.tensors) {
      CopyIntoPanels(*tensor, memory, *stop);
      memory += InLines(tensor->bytes);
    }
    if (pages == WeightPages::kMapped) return Walk(ranges, kStepBytes, *stop, platform::BringIn);
    const size_t step = std::max(kStepBytes, platform::LargePageSize());
    Walk(ranges, step, *stop, [page](uintptr_t begin, uintptr_t end) {
      platform::CopyIntoMemory(begin, (end + page - 1) / page * page);
    });
  };
  for (std::thread& thread : StartThreads(1, walk)) thread.detach();
}

}  // namespace switchyard
