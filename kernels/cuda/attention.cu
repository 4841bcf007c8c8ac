// Attention's launchers; the step before (norms, rotation, conversion, extending the cache) and the one after
// (joining the splits of a row's keys).
#include <algorithm>
#include <climits>

#include "attention_internal.h"
#include "numeric.cuh"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kPairsPerLane = kMaxHeadDim / 2 / kWarpSize;
constexpr int kDecodeBlocks = 384;   // at most, about, by splitting keys: what a large card runs at once
constexpr int kPrefillBlocks = 192;  // the same for several queries
constexpr int kWideBlocks = 256;     // wide tiles are used when there are at least so many
constexpr float kLog2OfE = 1.44269504088896341f;
constexpr size_t kAlignment = 256;

// q, k or v on its way from [batch, tokens, heads * head_dim] to [batch, heads, rows, pitch].
struct HeadStream {
  const float* x;
  const void* norm;  // [head_dim], or null
  bool rotated;
  bool at_start;  // rows begin at the position of the first token, instead of at 0
  void* out;
  int tokens, heads, rows, pitch;
};

struct PrepareParams {
  HeadStream streams[3];  // q, k, v
  const float* cos;       // [batch, tokens, head_dim / 2]
  const float* sin;
  const int32_t* last_positions;
  int batch, head_dim;
  int start;
  float epsilon;
};

// A head's two halves, lane l's elements l, l + 32, ... of each.
struct HeadHalves {
  float low[kPairsPerLane];
  float high[kPairsPerLane];
};

template <typename T>
__device__ void NormalizeHead(const T* weight, float epsilon, int half, HeadHalves* x) {
  const int lane = threadIdx.x % kWarpSize;
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kPairsPerLane; ++i) {
    squares += x->low[i] * x->low[i] + x->high[i] * x->high[i];  // zeros beyond the head
  }
  const float factor = 1.0f / sqrtf(WarpSum(squares) / static_cast<float>(2 * half) + epsilon);
#pragma unroll
  for (int i = 0; i < kPairsPerLane; ++i) {
    const int d = lane + i * kWarpSize;
    if (d < half) {
      x->low[i] *= factor * ToFloat(weight[d]);
      x->high[i] *= factor * ToFloat(weight[d + half]);
    }
  }
}

__device__ void RotateHead(const float* cos, const float* sin, int half, HeadHalves* x) {
  const int lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (int i = 0; i < kPairsPerLane; ++i) {
    const int d = lane + i * kWarpSize;
    if (d < half) {
      const float low = x->low[i];
      const float high = x->high[i];
      x->low[i] = low * cos[d] - high * sin[d];
      x->high[i] = high * cos[d] + low * sin[d];
    }
  }
}

// One warp prepares one head of one token; `index` counts a stream's [batch, tokens, heads].
template <typename T>
__device__ void PrepareHead(const PrepareParams& p, const HeadStream& stream, int64_t index) {
  const int lane = threadIdx.x % kWarpSize;
  const int half = p.head_dim / 2;
  const int head = static_cast<int>(index % stream.heads);
  const int64_t token = index / stream.heads;  // of the whole batch
  const int row = static_cast<int>(token / stream.tokens);
  const int start = stream.at_start ? StartOf(p.last_positions, p.start, stream.rows, row) : 0;
  if (start < 0) return;
  HeadHalves x;
  const float* from = stream.x + index * p.head_dim;
#pragma unroll
  for (int i = 0; i < kPairsPerLane; ++i) {
    const int d = lane + i * kWarpSize;
    x.low[i] = d < half ? from[d] : 0.0f;
    x.high[i] = d < half ? from[d + half] : 0.0f;
  }
  if (stream.norm != nullptr) NormalizeHead(static_cast<const T*>(stream.norm), p.epsilon, half, &x);
  if (stream.rotated) RotateHead(p.cos + token * half, p.sin + token * half, half, &x);
  const int64_t to_row =
      (static_cast<int64_t>(row) * stream.heads + head) * stream.rows + start + token % stream.tokens;
  T* to = static_cast<T*>(stream.out) + to_row * stream.pitch;
#pragma unroll
  for (int i = 0; i < kPairsPerLane; ++i) {
    const int d = lane + i * kWarpSize;
    if (d < half) {
      to[d] = FromFloat<T>(x.low[i]);
      to[d + half] = FromFloat<T>(x.high[i]);
    }
  }
  for (int d = p.head_dim + lane; d < stream.pitch; d += kWarpSize) to[d] = FromFloat<T>(0.0f);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    attention_prepare_kernel(const __grid_constant__ PrepareParams p) {
  int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const HeadStream& stream = p.streams[i];
    const int64_t count = static_cast<int64_t>(p.batch) * stream.tokens * stream.heads;
    if (index >= 0 && index < count) PrepareHead<T>(p, stream, index);
    index -= count;
  }
}

cudaError_t LaunchPrepare(const PrepareParams& params, DType dtype, cudaStream_t stream) {
  int64_t heads = 0;
  for (const HeadStream& of : params.streams)
    heads += static_cast<int64_t>(params.batch) * of.tokens * of.heads;
  return DispatchType(dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return LaunchKernel(attention_prepare_kernel<T>, dim3(static_cast<unsigned>(CeilDiv(heads, kWarps))),
                        dim3(kThreads), 0, stream, params);
  });
}

// One block joins the splits of one query's keys: every split's sums are brought to the largest score of all.
__global__ void __launch_bounds__(kThreads)
    attention_combine_kernel(const __grid_constant__ AttentionParams p) {
  float* weights = reinterpret_cast<float*>(SharedMemory());
  const int64_t query = blockIdx.x;
  const int token = static_cast<int>(query % p.tokens);
  const int64_t head = query / p.tokens;
  const int lane = threadIdx.x % kWarpSize;
  const KeyRange all = KeysOfTile(p, static_cast<int>(head / p.heads), token / p.tile_queries);
  const int keys = all.end - all.begin;
  const int count = keys == 0 ? 0 : static_cast<int>(CeilDiv(keys, KeysPerSplit(all, p.most_splits)));
  const SplitStats* stats = p.split_stats + query * p.splits;
  float largest = MinusInfinity();
  for (int i = lane; i < count; i += kWarpSize) largest = fmaxf(largest, stats[i].largest);
  largest = WarpMax(largest);
  float total = 0.0f;
  for (int i = lane; i < count; i += kWarpSize) total += stats[i].total * exp2f(stats[i].largest - largest);
  total = WarpSum(total);
  for (int i = threadIdx.x; i < count; i += kThreads) weights[i] = exp2f(stats[i].largest - largest) / total;
  __syncthreads();
  float* to = p.out + ((head / p.heads * p.tokens + token) * p.heads + head % p.heads) * p.head_dim;
  for (int d = threadIdx.x; d < p.head_dim; d += kThreads) {
    const float* sums = p.split_sums + query * p.splits * p.head_dim + d;
    float sum = 0.0f;
#pragma unroll 16
    for (int i = 0; i < count; ++i) sum = fmaf(weights[i], sums[static_cast<int64_t>(i) * p.head_dim], sum);
    to[d] = sum;
  }
}

// Carves a workspace; with a null base, only adds up.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<unsigned char*>(base)) {}
  template <typename T = void>
  T* Take(int64_t bytes) {
    const size_t at = used_;
    used_ += (static_cast<size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  size_t used() const { return used_; }

 private:
  unsigned char* base_;
  size_t used_ = 0;
};

int PitchOf(int head_dim) { return static_cast<int>(CeilDiv(head_dim, kHeadChunk)) * kHeadChunk; }

bool AreHeads(DType dtype, int64_t batch, int heads, int kv_heads, int head_dim) {
  return IsSupported(dtype) && batch >= 0 && batch <= INT_MAX && kv_heads > 0 && heads > 0 &&
         heads % kv_heads == 0 && head_dim > 0 && head_dim <= kMaxHeadDim && head_dim % 2 == 0;
}

// How many blocks share the keys of a tile: more than one where there are few tiles. Follows from sizes and
// the capacity alone, so that a launch of one token can be replayed.
void ChooseSplits(const CachedAttentionArgs& args, AttentionParams* p) {
  const bool one = args.tokens == 1;
  const int64_t tiles =
      one ? args.batch * args.kv_heads : args.batch * args.heads * CeilDiv(args.tokens, kNarrowTile);
  const int64_t wanted = (one ? kDecodeBlocks : kPrefillBlocks) / std::max<int64_t>(1, tiles);
  const int64_t seen = args.window > 0 ? std::min(args.window, args.capacity) + args.tokens : args.capacity;
  p->most_splits = static_cast<int>(std::clamp<int64_t>(wanted, 1, kMaxSplits));
  p->splits = static_cast<int>(std::clamp<int64_t>(CeilDiv(seen, kSplitKeys), 1, p->most_splits));
}

int TileQueries(const AttentionParams& p, DType dtype) {
  if (p.last_positions != nullptr || !AllowsTensorCores(p, dtype)) return 1;
  const int64_t wide = static_cast<int64_t>(p.batch) * p.heads * CeilDiv(p.tokens, kWideTile);
  return wide >= kWideBlocks ? kWideTile : kNarrowTile;
}

// The kernels' parameters, with their parts of the workspace; `bytes` is what they take of it.
AttentionParams ToParams(const CachedAttentionArgs& args, size_t* bytes) {
  AttentionParams p = {};
  Carver carver(args.workspace);
  p.batch = static_cast<int>(args.batch);
  p.tokens = static_cast<int>(args.tokens);
  p.heads = args.heads;
  p.kv_heads = args.kv_heads;
  p.head_dim = args.head_dim;
  p.q_pitch = PitchOf(args.head_dim);
  p.key_pitch = args.head_dim;
  p.key_rows = static_cast<int>(args.capacity);
  p.keys = args.keys;
  p.values = args.values;
  p.out = args.out;
  p.last_positions = args.tokens == 1 ? args.last_positions : nullptr;
  p.start = args.tokens == 1 ? 0 : static_cast<int>(args.total_length - args.tokens);
  p.filled = p.start + p.tokens;
  p.causal = args.causal;
  p.window = static_cast<int>(std::min<int64_t>(args.window, INT_MAX));
  p.scale = args.scale * kLog2OfE;
  ChooseSplits(args, &p);
  const int64_t rows = args.batch * args.heads * args.tokens;
  p.q = carver.Take(rows * p.q_pitch * static_cast<int64_t>(ElementSize(args.dtype)));
  if (p.splits > 1) {
    p.split_sums = carver.Take<float>(rows * p.splits * args.head_dim * static_cast<int64_t>(sizeof(float)));
    p.split_stats = carver.Take<SplitStats>(rows * p.splits * static_cast<int64_t>(sizeof(SplitStats)));
  }
  p.tile_queries = TileQueries(p, args.dtype);
  *bytes = carver.used();
  return p;
}

AttentionParams ToParams(const AttentionArgs& args, size_t* bytes) {
  AttentionParams p = {};
  Carver carver(args.workspace);
  p.batch = static_cast<int>(args.batch);
  p.tokens = static_cast<int>(args.queries);
  p.heads = args.heads;
  p.kv_heads = args.kv_heads;
  p.head_dim = args.head_dim;
  p.q_pitch = p.key_pitch = PitchOf(args.head_dim);
  p.key_rows = p.filled = static_cast<int>(args.keys);
  p.out = args.out;
  p.scale = args.scale * kLog2OfE;
  p.most_splits = p.splits = 1;
  const int64_t row_bytes = p.q_pitch * static_cast<int64_t>(ElementSize(args.dtype));
  p.q = carver.Take(args.batch * args.heads * args.queries * row_bytes);
  p.keys = carver.Take(args.batch * args.kv_heads * args.keys * row_bytes);
  p.values = carver.Take(args.batch * args.kv_heads * args.keys * row_bytes);
  p.tile_queries = TileQueries(p, args.dtype);
  *bytes = carver.used();
  return p;
}

cudaError_t CheckArgs(const CachedAttentionArgs& args) {
  const bool sizes = AreHeads(args.dtype, args.batch, args.heads, args.kv_heads, args.head_dim) &&
                     args.tokens >= 0 && args.capacity > 0 && args.capacity <= INT_MAX / 2 &&
                     args.window >= 0 && args.tokens <= args.capacity;
  const bool place = args.tokens == 1
                         ? args.last_positions != nullptr
                         : args.total_length >= args.tokens && args.total_length <= args.capacity;
  return sizes && place ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t CheckArgs(const AttentionArgs& args) {
  const bool sizes = AreHeads(args.dtype, args.batch, args.heads, args.kv_heads, args.head_dim) &&
                     args.queries >= 0 && args.queries <= INT_MAX / 2 && args.keys > 0 &&
                     args.keys <= INT_MAX / 2;
  return sizes ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t Attend(const AttentionParams& p, DType dtype, cudaStream_t stream) {
  if (!AllowsTensorCores(p, dtype)) return LaunchAttentionPlain(p, dtype, stream);
  return p.last_positions != nullptr ? LaunchDecodeTensorCore(p, dtype, stream)
                                     : LaunchAttentionTensorCore(p, dtype, stream);
}

}  // namespace

bool AllowsTensorCores(const AttentionParams& params, DType dtype) {
  return dtype != DType::kFloat32 && params.head_dim <= kMaxTensorCoreHeadDim && params.scale > 0.0f &&
         params.key_pitch % kHeadChunk == 0 && IsAligned16(params.q) && IsAligned16(params.keys) &&
         IsAligned16(params.values) && IsAligned16(params.out);
}

size_t CachedAttentionWorkspaceBytes(const CachedAttentionArgs& args) {
  CachedAttentionArgs sizes = args;
  sizes.workspace = nullptr;
  size_t bytes = 0;
  ToParams(sizes, &bytes);
  return bytes;
}

size_t AttentionWorkspaceBytes(const AttentionArgs& args) {
  AttentionArgs sizes = args;
  sizes.workspace = nullptr;
  size_t bytes = 0;
  ToParams(sizes, &bytes);
  return bytes;
}

cudaError_t LaunchCachedAttention(const CachedAttentionArgs& args, cudaStream_t stream) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CheckArgs(args));
  if (args.batch == 0 || args.tokens == 0) return cudaSuccess;
  size_t bytes = 0;
  const AttentionParams p = ToParams(args, &bytes);
  if (args.workspace == nullptr || args.workspace_bytes < bytes) return cudaErrorInvalidValue;
  const PrepareParams prepare = {
      {{args.q, args.q_norm, true, false, const_cast<void*>(p.q), p.tokens, p.heads, p.tokens, p.q_pitch},
       {args.k, args.k_norm, true, true, args.keys, p.tokens, p.kv_heads, p.key_rows, p.key_pitch},
       {args.v, nullptr, false, true, args.values, p.tokens, p.kv_heads, p.key_rows, p.key_pitch}},
      args.cos,
      args.sin,
      p.last_positions,
      p.batch,
      p.head_dim,
      p.start,
      args.epsilon};
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchPrepare(prepare, args.dtype, stream));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(Attend(p, args.dtype, stream));
  if (p.splits == 1) return cudaSuccess;
  return LaunchKernel(attention_combine_kernel,
                      dim3(static_cast<unsigned>(int64_t{p.batch} * p.heads * p.tokens)), dim3(kThreads),
                      kMaxSplits * sizeof(float), stream, p);
}

cudaError_t LaunchAttention(const AttentionArgs& args, cudaStream_t stream) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CheckArgs(args));
  if (args.batch == 0 || args.queries == 0) return cudaSuccess;
  size_t bytes = 0;
  const AttentionParams p = ToParams(args, &bytes);
  if (args.workspace == nullptr || args.workspace_bytes < bytes) return cudaErrorInvalidValue;
  const PrepareParams prepare = {
      {{args.q, nullptr, false, false, const_cast<void*>(p.q), p.tokens, p.heads, p.tokens, p.q_pitch},
       {args.k, nullptr, false, false, const_cast<void*>(p.keys), p.key_rows, p.kv_heads, p.key_rows,
        p.key_pitch},
       {args.v, nullptr, false, false, const_cast<void*>(p.values), p.key_rows, p.kv_heads, p.key_rows,
        p.key_pitch}},
      nullptr,
      nullptr,
      nullptr,
      p.batch,
      p.head_dim,
      0,
      0.0f};
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchPrepare(prepare, args.dtype, stream));
  return Attend(p, args.dtype, stream);
}

}  // namespace switchyard::cuda
