// Hashes of the last ids of every token, in 64 bits.
#include "../common/launch.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 128;

// One thread hashes a token for all heads.
__global__ void __launch_bounds__(kThreads) ngram_rows_kernel(const __grid_constant__ NgramRowsArgs p) {
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (token >= p.tokens) return;
  const int heads = p.heads / (p.order - 1);  // of one order
  // In unsigned numbers, which wrap round.
  uint64_t mixed = static_cast<uint64_t>(p.ids[token]) * static_cast<uint64_t>(p.multipliers[0]);
  bool ended = false;
  for (int i = 1; i < p.order; ++i) {
    const int64_t id = p.preceding[(i - 1) * p.tokens + token];
    ended = ended || id < 0 || id == p.end_id;
    mixed ^= static_cast<uint64_t>(ended ? p.end_id : id) * static_cast<uint64_t>(p.multipliers[i]);
    for (int head = (i - 1) * heads; head < i * heads; ++head) {
      const int64_t size = p.sizes[head];
      int64_t row = -1;
      if (size > 0) {
        const int64_t remainder = static_cast<int64_t>(mixed) % size;
        row = (remainder < 0 ? remainder + size : remainder) + p.offsets[head];
      }
      p.out[token * p.heads + head] = row;
    }
  }
}

}  // namespace

cudaError_t LaunchNgramRows(const NgramRowsArgs& args, cudaStream_t stream) {
  if (args.tokens < 0 || args.order < 2 || args.heads < 1 || args.heads % (args.order - 1) != 0)
    return cudaErrorInvalidValue;
  if (args.tokens == 0) return cudaSuccess;
  return LaunchKernel(ngram_rows_kernel, dim3(static_cast<unsigned>(CeilDiv(args.tokens, kThreads))),
                      dim3(kThreads), 0, stream, args);
}

}  // namespace switchyard::cuda
