#include "pinned_pages.h"

#include <stdexcept>

#include "../platform/pages.h"

namespace switchyard {
namespace {

struct Span {
  const std::byte* data;
  size_t bytes;
};

// A part that is not made of `count` equal pieces, such as a table, serves all matrices alike.
Span PieceOf(const StoredTensor& part, int64_t index, int64_t count) {
  const bool divides = !part.shape.empty() && part.shape.front() % count == 0;
  if (!divides) return {part.data, part.bytes};
  const size_t bytes = part.bytes / static_cast<size_t>(count);
  return {part.data + static_cast<size_t>(index) * bytes, bytes};
}

std::vector<Span> SpansOf(const WeightStore& store, const TensorSlice& slice) {
  const StoredTensor& tensor = store.Get(slice.handle);
  if (slice.index < 0 || slice.index >= slice.count)
    throw std::invalid_argument("tensor '" + tensor.name + "' has no matrix " + std::to_string(slice.index) +
                                " of " + std::to_string(slice.count));
  if (tensor.quantized == nullptr) return {PieceOf(tensor, slice.index, slice.count)};
  std::vector<Span> spans;
  spans.reserve(tensor.parts.size());
  for (const int64_t part : tensor.parts) spans.push_back(PieceOf(store.Get(part), slice.index, slice.count));
  return spans;
}

}  // namespace

PinnedBytes PinSlices(const WeightStore& store, const std::vector<TensorSlice>& slices,
                      const std::atomic<bool>& stop) {
  const uintptr_t page = platform::PageSize();
  PinnedBytes pinned;
  for (const TensorSlice& slice : slices) {
    for (const auto& [data, bytes] : SpansOf(store, slice)) {
      if (stop.load(std::memory_order_relaxed)) return pinned;
      if (bytes == 0) continue;
      const auto begin = reinterpret_cast<uintptr_t>(data);
      const uintptr_t first = begin / page * page, end = begin + bytes;
      if (platform::LockIn(first, end)) {
        pinned.locked += static_cast<int64_t>(bytes);
      } else {
        platform::BringIn(first, end);
        pinned.read += static_cast<int64_t>(bytes);
      }
    }
  }
  return pinned;
}

}  // namespace switchyard
