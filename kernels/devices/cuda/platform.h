// What differs between a GPU and an emulation of one.
#pragma once
#include <cuda_runtime.h>

#include <functional>
#include <memory>

#include "../../engine/device.h"

namespace switchyard::ops {

// As Device::provider and Device::memory_name say.
const char* ProviderName();
const char* MemoryName();

// Records what `run` enqueues on the stream.
std::unique_ptr<CapturedRun> CaptureOnStream(cudaStream_t stream, const std::function<void()>& run);

}  // namespace switchyard::ops
