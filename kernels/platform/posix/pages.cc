#include "../pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

namespace switchyard::platform {

size_t PageSize() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

void BringIn(uintptr_t begin, uintptr_t end) {
#ifdef MADV_POPULATE_READ
  const int result = madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_READ);
  if (result == 0 || errno != EINVAL) return;
#endif
  // Older kernels: one read of each page does the same, more slowly.
  const size_t page = PageSize();
  for (uintptr_t at = begin; at < end; at += page) (void)*reinterpret_cast<const volatile char*>(at);
}

bool LockIn(uintptr_t begin, uintptr_t end) {
  return mlock(reinterpret_cast<const void*>(begin), end - begin) == 0;
}

void LetGo(uintptr_t begin, uintptr_t end) {
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

#ifdef __linux__

namespace {

size_t FindLargePageSize() {
  const std::string folder = "/sys/kernel/mm/transparent_hugepage/";
  std::string choice;
  std::getline(std::ifstream(folder + "enabled"), choice);
  if (choice.empty() || choice.find("[never]") != std::string::npos) return 0;
  size_t bytes = 0;
  std::ifstream(folder + "hpage_pmd_size") >> bytes;
  return bytes;
}

}  // namespace

size_t LargePageSize() {
  static const size_t bytes = FindLargePageSize();
  return bytes;
}

void PreferLargePages(void* memory, size_t bytes) {
  const uintptr_t page = PageSize();
  const auto first = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t begin = (first + page - 1) / page * page;
  const uintptr_t end = (first + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

bool CopyIntoMemory(uintptr_t begin, uintptr_t end) {
  const size_t large = LargePageSize();
  if (large == 0 || begin == end) return false;
  const size_t bytes = end - begin;
  // Large pages move as they are between places that lie alike in their large pages.
  const size_t room = bytes + large;
  void* memory =
      mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  const auto first = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t copy = first + (begin + large - first % large) % large;
  void* from = reinterpret_cast<void*>(copy);
  PreferLargePages(from, bytes);
  std::memcpy(from, reinterpret_cast<const void*>(begin), bytes);
  // mremap looks for what may fail before it takes the old mapping away, and lets nobody see the place empty.
  const bool moved =
      mprotect(from, bytes, PROT_READ) == 0 &&
      mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, reinterpret_cast<void*>(begin)) != MAP_FAILED;
  if (!moved) {
    munmap(memory, room);
    return false;
  }
  if (copy > first) munmap(memory, copy - first);
  if (copy + bytes < first + room) munmap(reinterpret_cast<void*>(copy + bytes), first + room - copy - bytes);
  return true;
}

#else

size_t LargePageSize() { return 0; }

void PreferLargePages(void*, size_t) {}

bool CopyIntoMemory(uintptr_t, uintptr_t) { return false; }

#endif

void* MapZeros(void* place, size_t bytes) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (place == nullptr ? 0 : MAP_FIXED);
  void* zeros = mmap(place, bytes, PROT_READ, flags, -1, 0);
  return zeros == MAP_FAILED ? nullptr : zeros;
}

}  // namespace switchyard::platform
