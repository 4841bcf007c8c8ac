// The step after attention whose keys were split.
#include "../common/numeric.cuh"
#include "attention_internal.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 4 * kWarpSize;

// One block joins the splits of one query's keys: every split's sums are brought to the largest score of all.
__global__ void __launch_bounds__(kThreads)
    attention_combine_kernel(const __grid_constant__ AttentionParams p) {
  float* weights = reinterpret_cast<float*>(SharedMemory());
  WaitForPrevious();
  const int64_t index = blockIdx.x;
  const Query query = QueryOf(p, static_cast<int>(index / p.heads));
  if (!query.chosen) return;
  const int head = static_cast<int>(index % p.heads);
  const int lane = threadIdx.x % kWarpSize;
  const int count = SplitsWithKeys(p, KeysOfQuery(p, query));
  const SplitStats* stats = p.split_stats + index * p.splits;
  float largest = MinusInfinity();
  for (int i = lane; i < count; i += kWarpSize) largest = fmaxf(largest, stats[i].largest);
  largest = WarpMax(largest);
  if (largest == MinusInfinity()) largest = 0.0f;  // a list named nothing that the query sees
  float total = 0.0f;
  for (int i = lane; i < count; i += kWarpSize) total += stats[i].total * exp2f(stats[i].largest - largest);
  total = WarpSum(total);
  for (int i = threadIdx.x; i < count; i += kThreads) {
    weights[i] = total > 0.0f ? exp2f(stats[i].largest - largest) / total : 0.0f;
  }
  __syncthreads();
  float* to = p.out + (static_cast<int64_t>(query.token) * p.heads + head) * p.head_dim;
  for (int d = threadIdx.x; d < p.head_dim; d += kThreads) {
    const float* sums = p.split_sums + index * p.splits * p.head_dim + d;
    float sum = 0.0f;
#pragma unroll 16
    for (int i = 0; i < count; ++i) sum = fmaf(weights[i], sums[static_cast<int64_t>(i) * p.head_dim], sum);
    to[d] = sum;
  }
}

}  // namespace

cudaError_t LaunchAttentionCombine(const AttentionParams& p, cudaStream_t stream) {
  if (p.splits == 1) return cudaSuccess;
  return LaunchDependentKernel(attention_combine_kernel,
                               dim3(static_cast<unsigned>(int64_t{p.slots} * p.heads)), dim3(kThreads),
                               kMaxSplits * sizeof(float), stream, p);
}

}  // namespace switchyard::cuda
