// Copies of weights in row panels.
#pragma once
#include <atomic>
#include <cstdint>

#include "weight_store.h"

namespace switchyard {

// Lays a tensor that has `panels` out in row panels in `memory`, which has as many bytes and lives as long as
// the tensor, and lets the mapped pages go that hold nothing else; who still reads rows brings them in again.
// Leaves the tensor as it was where `stop` is set meanwhile.
void CopyIntoPanels(const StoredTensor& tensor, std::byte* memory, const std::atomic<bool>& stop);

}  // namespace switchyard
