// Counting calls, and moving blocks apart.
#include "../common/launch.h"
#include "../kernels.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads)
    count_call_kernel(const int64_t* calls_in, int64_t* calls_out, int count, int which) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i < count) calls_out[i] = calls_in[i] + (i == which ? 1 : 0);
}

}  // namespace

cudaError_t LaunchCountCall(const int64_t* calls_in, int64_t* calls_out, int count, int which,
                            cudaStream_t stream) {
  if (which < 0 || which >= count) return cudaErrorInvalidValue;
  return LaunchKernel(count_call_kernel, dim3(static_cast<unsigned>(CeilDiv(count, kThreads))),
                      dim3(kThreads), 0, stream, calls_in, calls_out, count, which);
}

cudaError_t LaunchCopyBlocks(const void* from, void* to, int64_t blocks, size_t from_bytes, size_t to_bytes,
                             cudaStream_t stream) {
  if (blocks < 0 || from_bytes > to_bytes) return cudaErrorInvalidValue;
  if (blocks == 0 || from_bytes == 0) return cudaSuccess;
  return cudaMemcpy2DAsync(to, to_bytes, from, from_bytes, from_bytes, static_cast<size_t>(blocks),
                           cudaMemcpyDeviceToDevice, stream);
}

}  // namespace switchyard::cuda
