// Outlives reads from a mapped file whose pages are gone.
#pragma once
#include <atomic>
#include <cstddef>

namespace switchyard {

// Where a mapped file was cut short, or its disk fails, the kernel answers a read with SIGBUS, which ends the
// process. While memory is guarded, such a read makes all of it zeros instead and sets `lost`; the reader
// goes on and has to look at `lost` before its results count. Any thread may read. A SIGBUS from elsewhere
// goes to the handler that was there before. Memory is given up with UnguardPages before it is unmapped.
void GuardPages(const void* memory, size_t bytes, std::atomic<bool>* lost);
void UnguardPages(const void* memory);

}  // namespace switchyard
