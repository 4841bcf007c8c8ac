// Outlives reads from a mapped file whose pages are gone.
#pragma once
#include <atomic>
#include <cstddef>

namespace switchyard {

// While memory is guarded, a read from it that fails (platform/read_faults.h) makes all of it zeros and sets
// `lost`; the reader goes on and has to look at `lost` before its results count. Any thread may read. Memory
// is given up with UnguardPages before it is unmapped.
void GuardPages(const void* memory, size_t bytes, std::atomic<bool>* lost);
void UnguardPages(const void* memory);

}  // namespace switchyard
