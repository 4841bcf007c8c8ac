#include "../process.h"

#include <cstdlib>

namespace switchyard::platform {

void SetEnvironment(const char* name, const char* value) { setenv(name, value, 1); }

void AtExit(void (*handler)()) { std::atexit(handler); }

}  // namespace switchyard::platform
