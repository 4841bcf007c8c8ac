#include "../pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

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

void* MapZeros(void* place, size_t bytes) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (place == nullptr ? 0 : MAP_FIXED);
  void* zeros = mmap(place, bytes, PROT_READ, flags, -1, 0);
  return zeros == MAP_FAILED ? nullptr : zeros;
}

}  // namespace switchyard::platform
