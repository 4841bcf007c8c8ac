// Switchyard's custom ops on a GPU, as one session sees them.
#pragma once
#include <memory>

#include "store.h"

namespace switchyard::ops {

std::unique_ptr<DeviceOps> MakeOpSet(std::shared_ptr<CudaDevice> device, std::shared_ptr<CudaStore> store);

}  // namespace switchyard::ops
