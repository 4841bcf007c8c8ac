// Brings many tensors to a GPU, by several threads.
#pragma once
#include <functional>
#include <vector>

#include "stager.h"

namespace switchyard::ops {

// In the order given, so that threads read along each file together. `progress` hears the bytes done and in
// total, one thread at a time, and ends the upload by returning false. Throws std::runtime_error then, and
// for whatever the device reports.
void Upload(CudaDevice& device, DType dtype, const std::vector<Transfer>& transfers,
            const std::function<bool(int64_t done, int64_t total)>& progress);

}  // namespace switchyard::ops
