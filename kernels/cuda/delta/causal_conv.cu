// A depthwise convolution over the tokens of each row and the ones before it, and SiLU: all tokens at once,
// then each row's last inputs are kept for its next token.
#include "../common/launch.h"
#include "../common/numeric.cuh"
#include "slot_rows.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 128;

__host__ __device__ inline int64_t ContextOf(const CausalConvArgs& p) {
  return int64_t{p.kernel - 1} * p.dilation;
}

// The input `place` tokens after a row's first; those before it lie in what was kept, or are zeros.
__device__ float InputAt(const CausalConvArgs& p, const SlotRow& row, int64_t place, int64_t channel) {
  if (place >= 0) return p.x[(row.first + place) * p.channels + channel];
  if (row.fresh) return 0.0f;
  const int64_t context = ContextOf(p);
  return p.states[(row.slot * context + context + place) * p.channels + channel];
}

// A block convolves kThreads channels of a token.
__global__ void __launch_bounds__(kThreads) causal_conv_kernel(const __grid_constant__ CausalConvArgs p) {
  const int64_t token = blockIdx.x;
  const int64_t channel = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  WaitForPrevious();
  if (channel >= p.channels) return;
  const SlotRow row = SlotRowOf(p, token);
  float sum = 0.0f;
  for (int tap = 0; tap < p.kernel && row.end > 0; ++tap) {
    const int64_t back = int64_t{p.kernel - 1 - tap} * p.dilation;
    sum = fmaf(InputAt(p, row, token - row.first - back, channel), p.weight[tap * p.channels + channel], sum);
  }
  p.out[token * p.channels + channel] = Silu(sum);
}

// A thread keeps a channel's inputs of a row: what was kept moves towards the front, which was read before.
__global__ void __launch_bounds__(kThreads)
    causal_conv_keep_kernel(const __grid_constant__ CausalConvArgs p) {
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  WaitForPrevious();
  const SlotRow row = SlotRowAt(p, blockIdx.y);
  const int64_t tokens = row.end - row.first;
  if (channel >= p.channels || tokens == 0) return;
  const int64_t context = ContextOf(p);
  float* kept = p.states + row.slot * context * p.channels + channel;
  for (int64_t i = 0; i < context; ++i) kept[i * p.channels] = InputAt(p, row, tokens + i - context, channel);
}

bool Fits(const CausalConvArgs& args) {
  return args.tokens >= 0 && args.rows >= 0 && args.rows <= kMaxGridY && args.slots >= 0 &&
         args.channels > 0 && CeilDiv(args.channels, kThreads) <= kMaxGridY && args.kernel > 0 &&
         args.dilation > 0;
}

}  // namespace

cudaError_t LaunchCausalConv(const CausalConvArgs& args, cudaStream_t stream) {
  if (!Fits(args)) return cudaErrorInvalidValue;
  if (args.tokens == 0 || args.rows == 0) return cudaSuccess;
  const unsigned parts = static_cast<unsigned>(CeilDiv(args.channels, kThreads));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchDependentKernel(
      causal_conv_kernel, dim3(static_cast<unsigned>(args.tokens), parts), dim3(kThreads), 0, stream, args));
  return LaunchDependentKernel(causal_conv_keep_kernel, dim3(parts, static_cast<unsigned>(args.rows)),
                               dim3(kThreads), 0, stream, args);
}

}  // namespace switchyard::cuda
