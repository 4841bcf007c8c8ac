// Memory that begins at a multiple of 64 bytes: a cache line, and the widest vector.
#pragma once
#include <cstddef>
#include <memory>
#include <new>

#include "out_of_memory.h"

namespace switchyard {

inline constexpr std::align_val_t kMemoryAlignment{64};

struct AlignedFree {
  void operator()(std::byte* memory) const { ::operator delete(memory, kMemoryAlignment); }
};
using AlignedMemory = std::unique_ptr<std::byte, AlignedFree>;

// Uninitialised. Throws OutOfMemory.
inline AlignedMemory AllocateAligned(size_t bytes) {
  void* memory = ::operator new(bytes, kMemoryAlignment, std::nothrow);
  if (memory == nullptr) throw OutOfMemory(bytes);
  return AlignedMemory(static_cast<std::byte*>(memory));
}

}  // namespace switchyard
