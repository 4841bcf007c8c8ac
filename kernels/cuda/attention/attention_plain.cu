// Attention for any element type and head size: one warp a query and head, 32 keys at a time, each lane the
// product of one key.
#include "../common/numeric.cuh"
#include "attention_internal.h"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kPerLane = kMaxHeadDim / kWarpSize;
constexpr int kFloatsPerWarp = kMaxHeadDim + kWarpSize;

// What one warp works on.
struct PlainQuery {
  Query query;
  int slot, head;
  KeyRange keys;
};

__device__ PlainQuery LocateQuery(const AttentionParams& p, int64_t index, int split) {
  PlainQuery at;
  at.head = static_cast<int>(index % p.heads);
  at.slot = static_cast<int>(index / p.heads);
  at.query = QueryOf(p, at.slot);
  at.keys = SplitOf(p, KeysOfQuery(p, at.query), split);
  return at;
}

// The online softmax of one query: lane l holds sums of dimensions l, l + 32, ...
template <typename T>
class PlainSums {
 public:
  __device__ PlainSums(const AttentionParams& p, float* shared)
      : p_(p), query_(shared), weights_(shared + kMaxHeadDim) {}

  __device__ void Add(const PlainQuery& at, int first) {
    const int lane = threadIdx.x % kWarpSize;
    const int key = first + lane < at.keys.end ? PositionOf(p_, at.query, first + lane) : -1;
    const bool visible = key >= 0 && IsVisible(p_, at.query.position, key);
    const int64_t offset =
        key >= 0 ? KeyOffset(p_, at.query.span.row, at.head / (p_.heads / p_.kv_heads), key) : -1;
    const float score = visible ? Product(offset) * p_.scale : MinusInfinity();
    const float largest = fmaxf(largest_, WarpMax(score));
    if (largest == MinusInfinity()) return;  // nothing visible so far
    const float shrink = exp2f(largest_ - largest);
    const float weight = exp2f(score - largest);
    largest_ = largest;
    total_ = total_ * shrink + weight;
    __syncwarp();  // the weights before are read
    weights_[lane] = weight;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) sums_[i] *= shrink;
    const int count = Min(kWarpSize, at.keys.end - first);
    for (int k = 0; k < count; ++k) {
      const int64_t value = __shfl_sync(kFullWarp, offset, k);
      if (value >= 0) AddValues(static_cast<const T*>(p_.values) + value + lane, weights_[k]);
    }
  }

  __device__ void Store(const PlainQuery& at, int split) const {
    const int lane = threadIdx.x % kWarpSize;
    const float total = WarpSum(total_);
    const int64_t sums = (static_cast<int64_t>(at.slot) * p_.heads + at.head) * p_.splits + split;
    const bool final = p_.split_sums == nullptr;
    float* to = final ? p_.out + (static_cast<int64_t>(at.query.token) * p_.heads + at.head) * p_.head_dim
                      : p_.split_sums + sums * p_.head_dim;
    const float factor = !final ? 1.0f : total > 0.0f ? 1.0f / total : 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int d = lane + i * kWarpSize;
      if (d < p_.head_dim) to[d] = sums_[i] * factor;
    }
    if (!final && lane == 0) p_.split_stats[sums] = {largest_, total};
  }

 private:
  // The query times the key at an offset, which counts as zeros where there is none.
  __device__ float Product(int64_t offset) const {
    if (offset < 0) return 0.0f;
    const T* row = static_cast<const T*>(p_.keys) + offset;
    float sum = 0.0f;
    for (int d = 0; d < p_.head_dim; ++d) sum = fmaf(query_[d], ToFloat(row[d]), sum);
    return sum;
  }

  __device__ void AddValues(const T* row, float weight) {
    const int dims = p_.head_dim - threadIdx.x % kWarpSize;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (i * kWarpSize < dims) sums_[i] = fmaf(weight, ToFloat(row[i * kWarpSize]), sums_[i]);
    }
  }

  const AttentionParams& p_;
  const float* query_;
  float* weights_;
  float sums_[kPerLane] = {};
  float largest_ = MinusInfinity();
  float total_ = 0.0f;  // this lane's share
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    attention_plain_kernel(const __grid_constant__ AttentionParams p) {
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  WaitForPrevious();
  if (index >= static_cast<int64_t>(p.slots) * p.heads) return;
  const int split = blockIdx.y;
  const PlainQuery at = LocateQuery(p, index, split);
  if (!at.query.chosen) return;
  if (p.split_sums != nullptr && at.keys.begin == at.keys.end) return;

  float* shared = reinterpret_cast<float*>(SharedMemory()) + warp * kFloatsPerWarp;
  const int64_t head = static_cast<int64_t>(at.query.token) * p.heads + at.head;
  const T* q = static_cast<const T*>(p.q) + head * p.q_pitch;
  for (int d = lane; d < p.head_dim; d += kWarpSize) shared[d] = ToFloat(q[d]);
  __syncwarp();
  PlainSums<T> sums(p, shared);
  for (int key = at.keys.begin; key < at.keys.end; key += kWarpSize) sums.Add(at, key);
  sums.Store(at, split);
}

}  // namespace

cudaError_t LaunchAttentionPlain(const AttentionParams& params, DType dtype, cudaStream_t stream) {
  const int64_t queries = static_cast<int64_t>(params.slots) * params.heads;
  const dim3 grid(static_cast<unsigned>(CeilDiv(queries, kWarps)), static_cast<unsigned>(params.splits));
  return DispatchType(dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return LaunchDependentKernel(attention_plain_kernel<T>, grid, dim3(kThreads),
                                 kWarps * kFloatsPerWarp * sizeof(float), stream, params);
  });
}

}  // namespace switchyard::cuda
