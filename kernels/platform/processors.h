// The processors that this process may use.
#pragma once

namespace switchyard::platform {

// Physical cores, hyper-threads counted once; 0 where others know better (Linux has files for that) or there
// are no hyper-threads to speak of (macOS).
int PhysicalCores();

}  // namespace switchyard::platform
