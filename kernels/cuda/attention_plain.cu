// Attention for any element type and head size: one warp a query and head, 32 keys at a time, each lane the
// product of one key.
#include "attention_internal.h"
#include "numeric.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kPerLane = kMaxHeadDim / kWarpSize;
constexpr int kFloatsPerWarp = kMaxHeadDim + kWarpSize;

// What one warp works on.
struct PlainRow {
  int row, head, token;
  int position;
  KeyRange keys;
};

__device__ PlainRow LocateRow(const AttentionParams& p, int64_t index, int split) {
  PlainRow at;
  at.token = static_cast<int>(index % p.tokens);
  at.head = static_cast<int>(index / p.tokens % p.heads);
  at.row = static_cast<int>(index / p.tokens / p.heads);
  at.position = StartOf(p.last_positions, p.start, p.key_rows, at.row) + at.token;
  at.keys = SplitOf(p, KeysOfTile(p, at.row, at.token), split);
  return at;
}

// The online softmax of one query: lane l holds sums of dimensions l, l + 32, ...
template <typename T>
class PlainSums {
 public:
  __device__ PlainSums(const AttentionParams& p, const T* keys, const T* values, float* shared)
      : p_(p), keys_(keys), values_(values), query_(shared), weights_(shared + kMaxHeadDim) {}

  __device__ void Add(const PlainRow& at, int first) {
    const int lane = threadIdx.x % kWarpSize;
    const int key = first + lane;
    const bool visible = key < at.keys.end && IsVisible(p_, at.position, key);
    const float score = visible ? Product(key) * p_.scale : MinusInfinity();
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
    const T* row = values_ + static_cast<int64_t>(first) * p_.key_pitch + lane;
    for (int key = 0; key < count; ++key, row += p_.key_pitch) AddValues(row, weights_[key]);
  }

  __device__ void Store(const PlainRow& at, int split) const {
    const int lane = threadIdx.x % kWarpSize;
    const float total = WarpSum(total_);
    const int64_t query = (static_cast<int64_t>(at.row) * p_.heads + at.head) * p_.tokens + at.token;
    const int64_t token = static_cast<int64_t>(at.row) * p_.tokens + at.token;
    const bool final = p_.split_sums == nullptr;
    float* to = final ? p_.out + (token * p_.heads + at.head) * p_.head_dim
                      : p_.split_sums + (query * p_.splits + split) * p_.head_dim;
    const float factor = !final ? 1.0f : total > 0.0f ? 1.0f / total : 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int d = lane + i * kWarpSize;
      if (d < p_.head_dim) to[d] = sums_[i] * factor;
    }
    if (!final && lane == 0) p_.split_stats[query * p_.splits + split] = {largest_, total};
  }

 private:
  __device__ float Product(int key) const {
    const T* row = keys_ + static_cast<int64_t>(key) * p_.key_pitch;
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
  const T* keys_;
  const T* values_;
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
  if (index >= static_cast<int64_t>(p.batch) * p.heads * p.tokens) return;
  const int split = blockIdx.y;
  const PlainRow at = LocateRow(p, index, split);
  if (p.split_sums != nullptr && at.keys.begin == at.keys.end) return;

  float* shared = reinterpret_cast<float*>(SharedMemory()) + warp * kFloatsPerWarp;
  const T* q = static_cast<const T*>(p.q) + index * p.q_pitch;
  for (int d = lane; d < p.head_dim; d += kWarpSize) shared[d] = ToFloat(q[d]);
  __syncwarp();
  const int kv_head = at.head / (p.heads / p.kv_heads);
  const int64_t first_row = (static_cast<int64_t>(at.row) * p.kv_heads + kv_head) * p.key_rows;
  PlainSums<T> sums(p, static_cast<const T*>(p.keys) + first_row * p.key_pitch,
                    static_cast<const T*>(p.values) + first_row * p.key_pitch, shared);
  for (int key = at.keys.begin; key < at.keys.end; key += kWarpSize) sums.Add(at, key);
  sums.Store(at, split);
}

}  // namespace

cudaError_t LaunchAttentionPlain(const AttentionParams& params, DType dtype, cudaStream_t stream) {
  const int64_t rows = static_cast<int64_t>(params.batch) * params.heads * params.tokens;
  const dim3 grid(static_cast<unsigned>(CeilDiv(rows, kWarps)), static_cast<unsigned>(params.splits));
  return DispatchType(dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return LaunchKernel(attention_plain_kernel<T>, grid, dim3(kThreads),
                        kWarps * kFloatsPerWarp * sizeof(float), stream, params);
  });
}

}  // namespace switchyard::cuda
