#include "../read_faults.h"

#include "text.h"

namespace switchyard::platform {
namespace {

bool (*mend_read)(uintptr_t address) = nullptr;

LONG CALLBACK OnException(EXCEPTION_POINTERS* exception) {
  const EXCEPTION_RECORD& record = *exception->ExceptionRecord;
  // Nothing is mapped for a moment while one thread replaces what another reads, hence access violations,
  // too.
  const bool is_fault = record.ExceptionCode == static_cast<DWORD>(EXCEPTION_IN_PAGE_ERROR) ||
                        record.ExceptionCode == static_cast<DWORD>(EXCEPTION_ACCESS_VIOLATION);
  constexpr ULONG_PTR kRead = 0;
  if (!is_fault || record.NumberParameters < 2 || record.ExceptionInformation[0] != kRead)
    return EXCEPTION_CONTINUE_SEARCH;
  const DWORD error = GetLastError();
  const bool mended = mend_read(record.ExceptionInformation[1]);
  SetLastError(error);
  return mended ? EXCEPTION_CONTINUE_EXECUTION : EXCEPTION_CONTINUE_SEARCH;
}

}  // namespace

void HandleReadFaults(bool (*mend)(uintptr_t address)) {
  mend_read = mend;
  constexpr ULONG kFirst = 1;
  AddVectoredExceptionHandler(kFirst, OnException);
}

}  // namespace switchyard::platform
