// Maps the pages of weights ahead of their first use.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "weight_store.h"

namespace switchyard {

// A page of a mapped file costs a fault when it is first touched, in the middle of a product. This walks over
// the tensors on a thread of its own and maps their pages, reading from disk what the page cache lacks. Speed
// only: nothing depends on it, it ends early once `stop` is set, and is left out where no thread can be
// started.
void StartPrefetch(std::shared_ptr<const WeightStore> store, const std::vector<int64_t>& handles,
                   std::shared_ptr<const std::atomic<bool>> stop);

}  // namespace switchyard
