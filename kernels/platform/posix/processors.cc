#include "../processors.h"

namespace switchyard::platform {

int PhysicalCores() { return 0; }

}  // namespace switchyard::platform
