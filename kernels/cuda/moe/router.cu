// The router: logits, softmax in fp32, top-k and renormalisation; one warp chooses for a token.
#include "../common/launch.h"
#include "../common/numeric.cuh"
#include "../kernels.h"

namespace switchyard::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kResidentBlocks = 2;  // with a number given, loads in flight get the registers they need
constexpr int kMaxPerLane = 16;
constexpr int kMaxExperts = kMaxPerLane * kWarpSize;
constexpr int kFewExperts = 128;  // the usual numbers take fewer registers
constexpr int kMaxTopK = kWarpSize;
// Above so many tokens a GEMM reads the router's weight fewer times.
constexpr int64_t kFewTokens = kMostTokensRouterRounds;

struct Choice {
  float probability;
  int expert;
};

// Greater for a greater probability, and greatest for NaN, as in torch.topk; zero is left to what is no
// expert or taken.
__device__ unsigned SelectionKey(float probability) {
  const float key = probability == probability ? probability : __int_as_float(0x7f800000);
  return static_cast<unsigned>(__float_as_int(key)) + 1;
}

// Softmax over a token's experts; lane l holds experts l, l + 32, ...
template <int kPerLane>
__device__ void Softmax(float (&values)[kPerLane], int experts) {
  const int lane = threadIdx.x % kWarpSize;
  float largest = -__int_as_float(0x7f800000);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (lane + i * kWarpSize < experts) largest = fmaxf(largest, values[i]);
  }
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, mask));
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    values[i] = lane + i * kWarpSize < experts ? expf(values[i] - largest) : 0.0f;
    sum += values[i];
  }
  sum = WarpSum(sum);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) values[i] /= sum;
}

// The warp's best expert not yet taken, known to every lane: the lower index of equal ones.
template <int kPerLane>
__device__ Choice BestLeft(const float (&values)[kPerLane], unsigned taken, int experts) {
  const int lane = threadIdx.x % kWarpSize;
  unsigned best_key = 0;
  float best_value = 0.0f;
  int best = kMaxExperts;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = lane + i * kWarpSize;
    const bool free = expert < experts && (taken >> i & 1u) == 0;
    const unsigned key = SelectionKey(values[i]);
    if (free && key > best_key) {  // a lane's experts ascend
      best_key = key;
      best_value = values[i];
      best = expert;
    }
  }
  const unsigned key = __reduce_max_sync(kFullWarp, best_key);
  const unsigned expert =
      __reduce_min_sync(kFullWarp, best_key == key ? static_cast<unsigned>(best) : unsigned{kMaxExperts});
  return {__shfl_sync(kFullWarp, best_value, static_cast<int>(expert) % kWarpSize), static_cast<int>(expert)};
}

// One warp: the token's top_k experts and weights from its logits.
template <int kPerLane>
__device__ void ChooseExperts(float (&values)[kPerLane], int experts, int top_k, bool normalize,
                              int32_t* indices, float* weights) {
  const int lane = threadIdx.x % kWarpSize;
  Softmax<kPerLane>(values, experts);
  unsigned taken = 0;
  Choice mine = {0.0f, 0};
  float sum = 0.0f;
  for (int slot = 0; slot < top_k; ++slot) {
    const Choice best = BestLeft<kPerLane>(values, taken, experts);
    if (best.expert % kWarpSize == lane) taken |= 1u << (best.expert / kWarpSize);
    if (slot == lane) mine = best;
    sum += best.probability;
  }
  if (lane < top_k) {
    indices[lane] = mine.expert;
    weights[lane] = normalize ? mine.probability / sum : mine.probability;
  }
}

template <int kPerLane>
__device__ void ChooseFromLogits(const void* logits, DType dtype, int64_t first, int experts, int top_k,
                                 bool normalize, int32_t* indices, float* weights) {
  const int lane = threadIdx.x % kWarpSize;
  float values[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = lane + i * kWarpSize;
    values[i] = expert < experts ? LoadAs(logits, dtype, first + expert) : 0.0f;
  }
  ChooseExperts<kPerLane>(values, experts, top_k, normalize, indices, weights);
}

template <int kPerLane>
__global__ void __launch_bounds__(kThreads) router_topk_kernel(const RouterTopKArgs args) {
  WaitForPrevious();
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
  if (token >= args.tokens) return;
  ChooseFromLogits<kPerLane>(args.logits, args.logits_dtype, token * args.num_experts, args.num_experts,
                             args.top_k, args.normalize, args.indices + token * args.top_k,
                             args.weights + token * args.top_k);
}

// Whether this block is the last of the grid to come here; what all blocks wrote before is then seen by it.
__device__ bool IsLastBlock(int* counter) {
  int* last = reinterpret_cast<int*>(SharedMemory());
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    const int blocks = static_cast<int>(gridDim.x * gridDim.y);
    *last = atomicAdd(counter, 1) == blocks - 1;
    if (*last) *counter = 0;
    __threadfence();
  }
  __syncthreads();
  return *last != 0;
}

// The whole router for few tokens. One warp for a logit: were a token's logits left to one block, one
// multiprocessor would read the whole router, which takes about as long as all of them need for the token's
// experts. The last block chooses.
template <typename T, int kVector, typename X>
__global__ void __launch_bounds__(kThreads, kResidentBlocks)
    router_few_tokens_kernel(const __grid_constant__ RouterArgs args, int* counter) {
  const int64_t token = blockIdx.x;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int expert = static_cast<int>(blockIdx.y) * kWarps + warp;
  if (expert < args.num_experts) {
    const X* x = static_cast<const X*>(args.x) + token * args.hidden;
    const T* w = static_cast<const T*>(args.weight) + static_cast<int64_t>(expert) * args.hidden;
    const float logit = WarpDot<T, kVector, X>(x, w, args.hidden, [] { WaitForPrevious(); });
    if (threadIdx.x % kWarpSize == 0) args.logits[token * args.num_experts + expert] = logit;
  } else {
    WaitForPrevious();
  }
  if (!IsLastBlock(counter)) return;
  for (int64_t t = warp; t < args.tokens; t += kWarps) {
    const auto choose = [&](auto per_lane) {
      ChooseFromLogits<per_lane.value>(args.logits, DType::kFloat32, t * args.num_experts, args.num_experts,
                                       args.top_k, args.normalize, args.indices + t * args.top_k,
                                       args.weights + t * args.top_k);
    };
    if (args.num_experts <= kFewExperts) {
      choose(std::integral_constant<int, kFewExperts / kWarpSize>());
    } else {
      choose(std::integral_constant<int, kMaxPerLane>());
    }
  }
}

bool IsValidChoice(int num_experts, int top_k) {
  return num_experts > 0 && num_experts <= kMaxExperts && top_k > 0 && top_k <= num_experts &&
         top_k <= kMaxTopK;
}

cudaError_t LaunchForFewTokens(GemmContext& gemm, const RouterArgs& args, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(args.tokens),
                  static_cast<unsigned>(CeilDiv(args.num_experts, kWarps)));
  return DispatchType(args.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    constexpr int kVector = kVectorOf<T>;
    const bool vectors = args.hidden % kVector == 0 && IsAligned16(args.x) && IsAligned16(args.weight);
    const auto launch = [&](auto kernel) {
      return LaunchDependentKernel(kernel, grid, dim3(kThreads), sizeof(int), stream, args,
                                   BlockCounterOf(gemm));
    };
    if (args.float32_inputs) {
      return launch(vectors ? router_few_tokens_kernel<T, kVector, float>
                            : router_few_tokens_kernel<T, 1, float>);
    }
    return launch(vectors ? router_few_tokens_kernel<T, kVector, T> : router_few_tokens_kernel<T, 1, T>);
  });
}

// The logits of many tokens.
cudaError_t MultiplyLogits(GemmContext& gemm, const RouterArgs& args, cudaStream_t stream) {
  LinearArgs linear;
  linear.dtype = args.dtype;
  linear.m = args.tokens;
  linear.n = args.num_experts;
  linear.k = args.hidden;
  linear.a = args.x;
  linear.a_stride = args.hidden;
  linear.w = args.weight;
  linear.w_stride = args.hidden;
  linear.out = args.logits;
  linear.out_dtype = DType::kFloat32;
  linear.out_stride = args.num_experts;
  return LaunchLinear(gemm, linear, stream);
}

}  // namespace

cudaError_t LaunchRouterTopK(const RouterTopKArgs& args, cudaStream_t stream) {
  if (!IsValidChoice(args.num_experts, args.top_k) || !IsSupported(args.logits_dtype))
    return cudaErrorInvalidValue;
  if (args.tokens == 0) return cudaSuccess;
  const auto kernel = args.num_experts <= kFewExperts ? router_topk_kernel<kFewExperts / kWarpSize>
                                                      : router_topk_kernel<kMaxPerLane>;
  return LaunchDependentKernel(kernel, dim3(static_cast<unsigned>(CeilDiv(args.tokens, kWarps))),
                               dim3(kThreads), 0, stream, args);
}

cudaError_t LaunchRouter(GemmContext& gemm, const RouterArgs& args, cudaStream_t stream) {
  if (!IsValidChoice(args.num_experts, args.top_k) || !IsSupported(args.dtype)) return cudaErrorInvalidValue;
  if (args.tokens == 0) return cudaSuccess;
  if (args.float32_inputs && args.dtype != DType::kFloat32 && args.tokens > kFewTokens)
    return cudaErrorInvalidValue;
  if (args.tokens <= kFewTokens) return LaunchForFewTokens(gemm, args, stream);
  SWITCHYARD_RETURN_IF_CUDA_ERROR(MultiplyLogits(gemm, args, stream));
  return LaunchRouterTopK({args.logits, DType::kFloat32, args.tokens, args.num_experts, args.top_k,
                           args.normalize, args.indices, args.weights},
                          stream);
}

}  // namespace switchyard::cuda
