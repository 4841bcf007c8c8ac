// Opens the shared library that implements a device.
#pragma once
#include <string>

#include "device.h"

namespace switchyard::ops {

// Opens the library file at `path` on the first call; it stays open. Throws std::runtime_error naming the
// file and what to do when it is missing, does not load, or was built for another version of this interface.
DeviceLibrary& LoadDeviceLibrary(const std::string& path);

}  // namespace switchyard::ops
