#include "../pages.h"

#include "text.h"

namespace switchyard::platform {

size_t PageSize() {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwPageSize;
}

void BringIn(uintptr_t begin, uintptr_t end) {
  // Reads from the disk in large pieces; the pages are still to be mapped, one by one.
  WIN32_MEMORY_RANGE_ENTRY range = {reinterpret_cast<void*>(begin), end - begin};
  PrefetchVirtualMemory(GetCurrentProcess(), 1, &range, 0);
  const size_t page = PageSize();
  for (uintptr_t at = begin; at < end; at += page) (void)*reinterpret_cast<const volatile char*>(at);
}

bool LockIn(uintptr_t begin, uintptr_t end) {
  const HANDLE process = GetCurrentProcess();
  void* const memory = reinterpret_cast<void*>(begin);
  if (VirtualLock(memory, end - begin) != 0) return true;
  // A process may lock no more than its least working set holds; it may raise that itself.
  SIZE_T least = 0, most = 0;
  if (GetProcessWorkingSetSize(process, &least, &most) == 0) return false;
  const SIZE_T more = end - begin + PageSize();
  if (SetProcessWorkingSetSize(process, least + more, most + more) == 0) return false;
  if (VirtualLock(memory, end - begin) != 0) return true;
  SetProcessWorkingSetSize(process, least, most);
  return false;
}

// Unlocking pages that are not locked takes them out.
void LetGo(uintptr_t begin, uintptr_t end) { VirtualUnlock(reinterpret_cast<void*>(begin), end - begin); }

// Windows gives large pages to users with a privilege of their own.
size_t LargePageSize() { return 0; }

void PreferLargePages(void*, size_t) {}

bool CopyIntoMemory(uintptr_t, uintptr_t) { return false; }

void* MapZeros(void* place, size_t bytes) {
  const uint64_t size = bytes;
  // Room in the page file is set aside for as many bytes.
  HANDLE section = CreateFileMappingW(INVALID_HANDLE_VALUE, nullptr, PAGE_READONLY,
                                      static_cast<DWORD>(size >> 32), static_cast<DWORD>(size), nullptr);
  if (section == nullptr) return nullptr;
  void* zeros = nullptr;
  if (place == nullptr || UnmapViewOfFile(place) != 0)
    zeros = MapViewOfFileEx(section, FILE_MAP_READ, 0, 0, 0, place);
  const DWORD error = GetLastError();
  CloseHandle(section);  // the view keeps it
  SetLastError(error);
  return zeros;
}

}  // namespace switchyard::platform
