#include "panel_copy.h"

#include <algorithm>
#include <cstring>

#include "../platform/pages.h"

namespace switchyard {
namespace {

constexpr int64_t kPairBytes = 4;

// Pairs of one row that are read together: a cache line.
constexpr int64_t kLinePairs = 16;

// One panel: rows of `pairs` pairs, one after the other, are laid side by side.
void Interleave(const std::byte* rows, int64_t pairs, std::byte* panel) {
  for (int64_t first = 0; first < pairs; first += kLinePairs) {
    const int64_t end = std::min(pairs, first + kLinePairs);
    for (int64_t r = 0; r < kPanelRows; ++r) {
      const std::byte* row = rows + r * pairs * kPairBytes;
      for (int64_t p = first; p < end; ++p)
        std::memcpy(panel + (p * kPanelRows + r) * kPairBytes, row + p * kPairBytes, kPairBytes);
    }
  }
}

// Those that the tensor fills.
void LetPagesGo(const StoredTensor& tensor) {
  const uintptr_t page = platform::PageSize();
  const auto data = reinterpret_cast<uintptr_t>(tensor.data);
  const uintptr_t begin = (data + page - 1) / page * page, end = (data + tensor.bytes) / page * page;
  if (begin < end) platform::LetGo(begin, end);
}

}  // namespace

void CopyIntoPanels(const StoredTensor& tensor, std::byte* memory, const std::atomic<bool>& stop) {
  const int64_t pairs = tensor.shape.back() / 2;
  const int64_t panel_bytes = pairs * kPairBytes * kPanelRows;
  for (int64_t at = 0; at < static_cast<int64_t>(tensor.bytes); at += panel_bytes) {
    if (stop.load(std::memory_order_relaxed)) return;
    Interleave(tensor.data + at, pairs, memory + at);
  }
  tensor.panels->complete.store(memory, std::memory_order_release);
  LetPagesGo(tensor);
}

}  // namespace switchyard
