// Maps the pages of weights ahead of their first use.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "weight_store.h"

namespace switchyard {

// Where weights are to be: in the pages of their mapped files, or in a copy in large pages of memory, which
// are read faster than the small ones that most file systems give. The copy is in row panels where products
// want them (common/row_panels.h); otherwise it takes the place of the mapped pages (platform/pages.h).
enum class WeightPages { kMapped, kCopied };

// A page of a mapped file costs a fault when it is first touched, in the middle of a product. This walks over
// the tensors on a thread of its own and maps their pages, reading from disk what the page cache lacks, or
// puts copies in their place, from which those who read meanwhile go on. Speed only: nothing depends on it,
// it ends early once `stop` is set, and is left out where no thread can be started, or no memory be had.
void StartPrefetch(std::shared_ptr<const WeightStore> store, std::vector<int64_t> handles, WeightPages pages,
                   std::shared_ptr<const std::atomic<bool>> stop);

}  // namespace switchyard
