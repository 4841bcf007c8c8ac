// Moving blocks apart.
#include "../kernels.h"

namespace switchyard::cuda {

cudaError_t LaunchCopyBlocks(const void* from, void* to, int64_t blocks, size_t from_bytes, size_t to_bytes,
                             cudaStream_t stream) {
  if (blocks < 0 || from_bytes > to_bytes) return cudaErrorInvalidValue;
  if (blocks == 0 || from_bytes == 0) return cudaSuccess;
  return cudaMemcpy2DAsync(to, to_bytes, from, from_bytes, from_bytes, static_cast<size_t>(blocks),
                           cudaMemcpyDeviceToDevice, stream);
}

}  // namespace switchyard::cuda
