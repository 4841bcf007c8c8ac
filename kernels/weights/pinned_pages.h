// Keeps parts of tensors in memory.
#pragma once
#include <atomic>
#include <cstdint>
#include <vector>

#include "weight_store.h"

namespace switchyard {

// Of `count` matrices that lie one after another in a tensor, as the experts of a layer may, the one at
// `index`. Of a quantized tensor it is as much of every part.
struct TensorSlice {
  int64_t handle, index, count;
};

// What came of it, in bytes of the slices.
struct PinnedBytes {
  int64_t locked = 0;  // stay until the store's files are unmapped
  int64_t read = 0;    // were brought in, and may be dropped where memory is short
};

// Brings slices in, in their order, and has the system keep as many as it lets this process keep. Reads what
// the page cache lacks from disk; ends early, with what is done by then, once `stop` is set. Throws
// std::invalid_argument for a slice that its tensor does not have.
PinnedBytes PinSlices(const WeightStore& store, const std::vector<TensorSlice>& slices,
                      const std::atomic<bool>& stop);

}  // namespace switchyard
