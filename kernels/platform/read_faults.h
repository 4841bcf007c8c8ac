// Reads from mapped files that fail.
#pragma once
#include <cstdint>

namespace switchyard::platform {

// Where a mapped file was cut short, or its disk or share fails, the system stops the thread that reads from
// it (SIGBUS; EXCEPTION_IN_PAGE_ERROR on Windows), which would end the process. From now on such a thread
// calls `mend` with the address that it read, and reads again if that returns true; else the fault goes to
// whoever handled it before. `mend` may be called on any thread at any read, so it takes only locks that are
// held by nobody who reads mapped files. Call once.
void HandleReadFaults(bool (*mend)(uintptr_t address));

}  // namespace switchyard::platform
