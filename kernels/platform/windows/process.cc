#include "../process.h"

#include "text.h"

namespace switchyard::platform {

void SetEnvironment(const char* name, const char* value) {
  SetEnvironmentVariableW(Utf16(name).c_str(), Utf16(value).c_str());
}

void AtExit(void (*)()) {}

}  // namespace switchyard::platform
