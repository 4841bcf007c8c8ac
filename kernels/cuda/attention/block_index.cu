// The blocks of positions that tokens attend to: keys of whole blocks, scores of small heads, and the highest
// of these. Lists are the same whatever the order in which blocks run.
#include <algorithm>
#include <bit>
#include <climits>

#include "../common/numeric.cuh"
#include "attention_internal.h"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kPerLane = kMostIndexDim / kWarpSize;
constexpr int kKeysPerWarp = 8;           // blocks of positions that a warp scores
constexpr int64_t kMostScores = 4 << 20;  // in the workspace; tokens beyond take turns
constexpr int kChoosers = 256;            // threads that choose for a token
constexpr int kDigits = 256;              // of a score's bits, eight at a time
static_assert(kMostIndexDim <= kMaxHeadDim && kDigits == kChoosers);

struct IndexParams {
  AttentionParams rows;  // of one key head; queries as the workspace holds them
  int block, top;
  const float *block_cos, *block_sin;
  const void* norm;  // of keys
  float epsilon, norm_offset;
  int pairs;
  int first_token, tokens;  // that scores are for
  int most;                 // blocks of a row
  float* scores;            // [tokens, most]
  int32_t* selected;        // [all tokens, top]
};

// Complete blocks up to a token's own position.
__device__ int CompleteBlocks(const IndexParams& p, const Query& query) {
  return query.chosen && query.span.keys > 0 ? (query.position + 1) / p.block : 0;
}

// A warp makes the key of the block that ends with a token: the mean of the block's keys, normed and turned.
template <typename T>
__global__ void __launch_bounds__(kThreads) block_key_kernel(const __grid_constant__ IndexParams p) {
  const int lane = threadIdx.x % kWarpSize;
  const int token = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarpSize;
  if (token >= p.rows.tokens) return;
  const Query query = QueryOf(p.rows, token);
  if (!query.chosen || query.span.keys == 0 || (query.position + 1) % p.block != 0) return;
  T* keys = static_cast<T*>(const_cast<void*>(p.rows.keys));
  const int64_t last = KeyOffset(p.rows, query.span.row, 0, query.position);
  if (last < 0) return;
  const int dim = p.rows.head_dim;
  float* mean = reinterpret_cast<float*>(SharedMemory()) + threadIdx.x / kWarpSize * kMostIndexDim;
  float squares = 0.0f;
  for (int d = lane; d < dim; d += kWarpSize) {
    float sum = 0.0f;
    // A block of positions lies in one block of the pool.
    for (int i = p.block - 1; i >= 0; --i)
      sum = fmaf(ToFloat(keys[last - int64_t{i} * dim + d]), 1.0f / static_cast<float>(p.block), sum);
    mean[d] = sum;
    squares = fmaf(sum, sum, squares);
  }
  const float factor = 1.0f / sqrtf(WarpSum(squares) / static_cast<float>(dim) + p.epsilon);
  __syncwarp();
  const T* norm = static_cast<const T*>(p.norm);
  const auto normed = [&](int d) { return mean[d] * factor * (p.norm_offset + ToFloat(norm[d])); };
  const float* cos = p.block_cos + static_cast<int64_t>(token) * p.pairs;
  const float* sin = p.block_sin + static_cast<int64_t>(token) * p.pairs;
  for (int d = lane; d < dim; d += kWarpSize) {
    float value = normed(d);
    if (d < p.pairs) {
      value = value * cos[d] - normed(d + p.pairs) * sin[d];
    } else if (d < 2 * p.pairs) {
      value = value * cos[d - p.pairs] + normed(d - p.pairs) * sin[d - p.pairs];
    }
    keys[last + d] = FromFloat<T>(value);
  }
}

// The sum over a token's heads of relu(q . key); NaN counts as nothing, so that there is an order.
template <typename T>
__device__ float ScoreOf(const IndexParams& p, int token, const T* key) {
  const int lane = threadIdx.x % kWarpSize;
  const int dim = p.rows.head_dim;
  float values[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int d = lane + i * kWarpSize;
    values[i] = d < dim && key != nullptr ? ToFloat(key[d]) : 0.0f;
  }
  const T* q = static_cast<const T*>(p.rows.q) + static_cast<int64_t>(token) * p.rows.heads * p.rows.q_pitch;
  float score = 0.0f;
  for (int head = 0; head < p.rows.heads; ++head, q += p.rows.q_pitch) {
    float product = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int d = lane + i * kWarpSize;
      if (d < dim) product = fmaf(ToFloat(q[d]), values[i], product);
    }
    product = WarpSum(product);
    score += product > 0.0f ? product : 0.0f;
  }
  return score;
}

// A warp scores some blocks of positions for a token that has to choose among them.
template <typename T>
__global__ void __launch_bounds__(kThreads) block_score_kernel(const __grid_constant__ IndexParams p) {
  const int token = p.first_token + static_cast<int>(blockIdx.y);
  const Query query = QueryOf(p.rows, token);
  const int complete = CompleteBlocks(p, query);
  if (complete <= p.top) return;
  const int warp = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarpSize;
  const int end = Min(complete, (warp + 1) * kKeysPerWarp);
  for (int block = warp * kKeysPerWarp; block < end; ++block) {
    const int64_t at = KeyOffset(p.rows, query.span.row, 0, (block + 1) * p.block - 1);
    const T* key = at < 0 ? nullptr : static_cast<const T*>(p.rows.keys) + at;
    const float score = ScoreOf(p, token, key);
    if (threadIdx.x % kWarpSize == 0) p.scores[static_cast<int64_t>(blockIdx.y) * p.most + block] = score;
  }
}

// Scores are not negative, so that their bits are in their order.
__device__ unsigned BitsAt(const float* scores, int block) {
  return static_cast<unsigned>(__float_as_int(scores[block]));
}

struct Threshold {
  unsigned bits;
  int equal;  // of those with these bits, how many are chosen
};

// What the `top` highest of `count` scores reach, by eight bits at a time.
__device__ Threshold FindThreshold(const float* scores, int count, int top, int* counts) {
  unsigned bits = 0, known = 0;
  int left = top;
  for (int shift = 24; shift >= 0; shift -= 8) {
    counts[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += kChoosers) {
      const unsigned of = BitsAt(scores, i);
      if ((of & known) == bits) atomicAdd(&counts[of >> shift & (kDigits - 1)], 1);
    }
    __syncthreads();
    int digit = kDigits - 1;
    for (; digit > 0 && counts[digit] < left; --digit) left -= counts[digit];
    bits |= static_cast<unsigned>(digit) << shift;
    known |= static_cast<unsigned>(kDigits - 1) << shift;
    __syncthreads();  // counts were read
  }
  return {bits, left};
}

// Sums over the threads before this one, and over all.
struct Before {
  int mine, all;
};
__device__ Before SumBefore(int value, int* sums) {
  const int lane = threadIdx.x % kWarpSize;
  int sum = value;
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const int below = __shfl_up_sync(kFullWarp, sum, distance);
    if (lane >= distance) sum += below;
  }
  __syncthreads();  // the sums before were read
  if (lane == kWarpSize - 1) sums[threadIdx.x / kWarpSize] = sum;
  __syncthreads();
  Before before = {sum - value, 0};
  for (int w = 0; w < kChoosers / kWarpSize; ++w) {
    if (w < static_cast<int>(threadIdx.x) / kWarpSize) before.mine += sums[w];
    before.all += sums[w];
  }
  return before;
}

// A block of threads lists what a token chooses, by ascending place; -1 where it sees all.
__global__ void __launch_bounds__(kChoosers) block_choice_kernel(const __grid_constant__ IndexParams p) {
  const int token = p.first_token + static_cast<int>(blockIdx.x);
  int32_t* selected = p.selected + static_cast<int64_t>(token) * p.top;
  const int complete = CompleteBlocks(p, QueryOf(p.rows, token));
  if (complete <= p.top) {
    for (int i = threadIdx.x; i < p.top; i += kChoosers) selected[i] = -1;
    return;
  }
  int* counts = reinterpret_cast<int*>(SharedMemory());
  int* sums = counts + kDigits;
  const float* scores = p.scores + static_cast<int64_t>(blockIdx.x) * p.most;
  const Threshold least = FindThreshold(scores, complete, p.top, counts);
  int greater = 0, equal = 0;  // among the blocks before
  for (int first = 0; first < complete; first += kChoosers) {
    const int block = first + static_cast<int>(threadIdx.x);
    const unsigned bits = block < complete ? BitsAt(scores, block) : 0u;
    const int is_greater = block < complete && bits > least.bits;
    const int is_equal = block < complete && bits == least.bits;
    // Two counts in one number: neither reaches 2^16.
    const Before before = SumBefore(is_greater | is_equal << 16, sums);
    const int equals_before = equal + (before.mine >> 16);
    const int place = greater + (before.mine & 0xffff) + Min(equals_before, least.equal);
    if (is_greater || (is_equal && equals_before < least.equal)) selected[place] = block;
    greater += before.all & 0xffff;
    equal += before.all >> 16;
  }
}

int MostBlocks(const BlockIndexArgs& args) {
  return static_cast<int>(args.max_blocks * args.block_size / args.block);
}

int PitchOf(int dim) { return static_cast<int>(CeilDiv(dim, kHeadChunk)) * kHeadChunk; }

// Tokens that are scored at a time.
int64_t TokensPerTurn(const BlockIndexArgs& args) {
  const int64_t most = std::max(1, MostBlocks(args));
  return std::clamp<int64_t>(kMostScores / most, 1, std::min(std::max<int64_t>(args.tokens, 1), kMaxGridY));
}

// Where the workspace's scores begin, behind the queries.
size_t QueryBytes(const BlockIndexArgs& args) {
  const auto bytes =
      static_cast<size_t>(args.tokens * args.heads * PitchOf(args.dim)) * ElementSize(args.dtype);
  return (bytes + 255) / 256 * 256;
}

cudaError_t CheckArgs(const BlockIndexArgs& args) {
  const bool sizes = IsSupported(args.dtype) && args.heads > 0 && args.dim > 0 && args.dim <= kMostIndexDim &&
                     args.pairs >= 0 && 2 * args.pairs <= args.dim && args.tokens >= 0 &&
                     args.tokens <= INT_MAX / 2 && args.rows >= 0 && args.rows <= INT_MAX / 2;
  const bool blocks = args.block > 0 && args.top > 0 && args.block_size >= kKeyAlignment &&
                      std::has_single_bit(static_cast<uint64_t>(args.block_size)) &&
                      args.block_size % args.block == 0 && args.blocks >= 0 && args.blocks <= INT_MAX &&
                      args.max_blocks >= 0 && args.max_blocks <= INT_MAX / 2 / args.block_size;
  const bool list = args.top <= std::max<int64_t>(1, blocks ? MostBlocks(args) : 0);
  const bool places = args.tokens == 0 || (args.rows > 0 && args.row_starts != nullptr &&
                                           args.past_lengths != nullptr && args.block_tables != nullptr);
  return sizes && blocks && list && places ? cudaSuccess : cudaErrorInvalidValue;
}

IndexParams ToParams(const BlockIndexArgs& args) {
  IndexParams p = {};
  AttentionParams& rows = p.rows;
  // Keys go to their places as they are, like values: only queries are normed and turned.
  rows.inputs = {args.q,      nullptr,  args.k,       static_cast<int>(args.tokens),
                 args.q_norm, nullptr,  args.epsilon, args.norm_offset,
                 args.cos,    args.sin, args.pairs};
  rows.q = args.workspace;
  rows.keys = rows.values = args.keys;
  rows.row_starts = args.row_starts;
  rows.past_lengths = args.past_lengths;
  rows.tables = args.block_tables;
  rows.tokens = rows.slots = static_cast<int>(args.tokens);
  rows.rows = static_cast<int>(args.rows);
  rows.table_size = static_cast<int>(args.max_blocks);
  rows.blocks = static_cast<int>(args.blocks);
  rows.block_size = static_cast<int>(args.block_size);
  rows.block_shift = std::countr_zero(static_cast<unsigned>(args.block_size));
  rows.heads = args.heads;
  rows.kv_heads = 1;
  rows.head_dim = rows.key_pitch = args.dim;
  rows.q_pitch = PitchOf(args.dim);
  rows.causal = true;
  p.block = static_cast<int>(args.block);
  p.top = static_cast<int>(args.top);
  p.block_cos = args.block_cos;
  p.block_sin = args.block_sin;
  p.norm = args.k_norm;
  p.epsilon = args.epsilon;
  p.norm_offset = args.norm_offset;
  p.pairs = args.pairs;
  p.most = MostBlocks(args);
  p.scores = reinterpret_cast<float*>(static_cast<unsigned char*>(args.workspace) + QueryBytes(args));
  p.selected = args.selected;
  return p;
}

template <typename T>
cudaError_t Choose(IndexParams p, const BlockIndexArgs& args, cudaStream_t stream) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(
      LaunchKernel(block_key_kernel<T>, dim3(static_cast<unsigned>(CeilDiv(args.tokens, kWarps))),
                   dim3(kThreads), kWarps * kMostIndexDim * sizeof(float), stream, p));
  const unsigned parts = static_cast<unsigned>(CeilDiv(std::max(1, p.most), kWarps * kKeysPerWarp));
  const int64_t turn = TokensPerTurn(args);
  for (int64_t first = 0; first < args.tokens; first += turn) {
    p.first_token = static_cast<int>(first);
    p.tokens = static_cast<int>(std::min(turn, args.tokens - first));
    const unsigned tokens = static_cast<unsigned>(p.tokens);
    if (p.most > p.top) {
      SWITCHYARD_RETURN_IF_CUDA_ERROR(
          LaunchKernel(block_score_kernel<T>, dim3(parts, tokens), dim3(kThreads), 0, stream, p));
    }
    SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchKernel(block_choice_kernel, dim3(tokens), dim3(kChoosers),
                                                 (kDigits + kChoosers / kWarpSize) * sizeof(int), stream, p));
  }
  return cudaSuccess;
}

}  // namespace

size_t BlockIndexWorkspaceBytes(const BlockIndexArgs& args) {
  if (CheckArgs(args) != cudaSuccess) return 0;
  const int64_t scores = TokensPerTurn(args) * std::max(1, MostBlocks(args));
  return QueryBytes(args) + static_cast<size_t>(scores) * sizeof(float);
}

cudaError_t LaunchBlockIndex(const BlockIndexArgs& args, cudaStream_t stream) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CheckArgs(args));
  if (args.tokens == 0) return cudaSuccess;
  if (args.workspace == nullptr || args.workspace_bytes < BlockIndexWorkspaceBytes(args))
    return cudaErrorInvalidValue;
  const IndexParams p = ToParams(args);
  SWITCHYARD_RETURN_IF_CUDA_ERROR(LaunchAttentionPrepare(p.rows, args.dtype, stream));
  return DispatchType(args.dtype,
                      [&](auto tag) { return Choose<typename decltype(tag)::Type>(p, args, stream); });
}

}  // namespace switchyard::cuda
