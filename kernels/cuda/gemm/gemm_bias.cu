// The bias of products whose output is wider than their operands, which cuBLASLt does not add itself.
#include "../common/launch.h"
#include "../common/numeric.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    add_bias_kernel(const T* bias, float* out, int64_t m, int64_t n, int64_t stride) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  WaitForPrevious();
  if (i >= m * n) return;
  const int64_t column = i % n;
  out[i / n * stride + column] += ToFloat(bias[column]);
}

}  // namespace

cudaError_t LaunchAddBias(const LinearArgs& args, cudaStream_t stream) {
  if (args.m == 0) return cudaSuccess;
  return DispatchType(args.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return LaunchDependentKernel(add_bias_kernel<T>,
                                 dim3(static_cast<unsigned>(CeilDiv(args.m * args.n, kThreads))),
                                 dim3(kThreads), 0, stream, static_cast<const T*>(args.bias),
                                 static_cast<float*>(args.out), args.m, args.n, args.out_stride);
  });
}

}  // namespace switchyard::cuda
