// Pages of the address space.
#pragma once
#include <cstddef>
#include <cstdint>

namespace switchyard::platform {

size_t PageSize();

// Brings the pages of [begin, end) in, so that nobody's first read of them faults. `begin` is the first byte
// of a page.
void BringIn(uintptr_t begin, uintptr_t end);

// Brings the pages of [begin, end) in and has the system keep them there until they are unmapped. False, and
// nothing is certain, where it does not let this process keep so many. `begin` is the first byte of a page.
bool LockIn(uintptr_t begin, uintptr_t end);

// Bytes of a large page of memory, for which the processor keeps one entry in place of hundreds; 0 where the
// system gives this process none.
size_t LargePageSize();

// Asks for large pages wherever one fits into `bytes` of memory at `memory`, which nobody has written to yet.
// Nothing changes where there are none.
void PreferLargePages(void* memory, size_t bytes);

// Puts a copy in this process's own memory, in large pages wherever one fits, in the place of the mapping in
// [begin, end), both the first byte of a page. Who reads there meanwhile sees the same bytes. False where
// memory was refused, or LargePageSize() is 0; the mapping is then as it was.
bool CopyIntoMemory(uintptr_t begin, uintptr_t end);

// Takes the pages of [begin, end) of a mapped file out of this process, which keeps what lies there readable:
// who reads it brings its page in again. `begin` is the first byte of a page.
void LetGo(uintptr_t begin, uintptr_t end);

// `bytes` of zeros that can only be read: at `place`, in the stead of the mapping that is there and that has
// as many bytes, or anywhere where that is null. Null on failure. Readers of `place` may fault meanwhile
// (read_faults.h).
void* MapZeros(void* place, size_t bytes);

}  // namespace switchyard::platform
