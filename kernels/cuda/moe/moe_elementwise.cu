// The experts' element-wise kernels: the weighted sum over a token's experts, and eager's two, which gather
// rows and multiply silu(gate) with up.
#include "../common/numeric.cuh"
#include "moe_internal.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSlots = 4;

struct CombineParams {
  const void* outputs;
  const int32_t* positions;
  const float* weights;
  void* y;
  int hidden, top_k;
  DType y_dtype;
  bool accumulate;
};

// Adds to y or replaces it; y is in T or float32.
template <typename T, int kVector>
__device__ void StoreSums(const CombineParams& p, int64_t first, float (&sums)[kVector]) {
  if (p.accumulate) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) sums[i] += LoadAs(p.y, p.y_dtype, first + i);
  }
  if (p.y_dtype == DType::kFloat32) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) static_cast<float*>(p.y)[first + i] = sums[i];
    return;
  }
  Pack<T, kVector> pack;
#pragma unroll
  for (int i = 0; i < kVector; ++i) pack.values[i] = FromFloat<T>(sums[i]);
  *reinterpret_cast<Pack<T, kVector>*>(static_cast<T*>(p.y) + first) = pack;
}

// A block sums a stretch of one token's output, slot after slot in fp32.
template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads) moe_combine_kernel(const CombineParams p) {
  const int64_t token = blockIdx.x;
  const int column = (blockIdx.y * kThreads + threadIdx.x) * kVector;
  WaitForPrevious();
  if (column >= p.hidden) return;
  float sums[kVector] = {};
  const T* outputs = static_cast<const T*>(p.outputs) + column;
  const int32_t* positions = p.positions + token * p.top_k;
  const float* weights = p.weights + token * p.top_k;
  for (int first = 0; first < p.top_k; first += kSlots) {
    // Rows of several slots are on their way together.
    Pack<T, kVector> packs[kSlots];
#pragma unroll
    for (int i = 0; i < kSlots; ++i) {
      const int slot = first + i < p.top_k ? first + i : first;
      packs[i] = LoadPack<T, kVector>(outputs + int64_t{positions[slot]} * p.hidden);
    }
#pragma unroll
    for (int i = 0; i < kSlots; ++i) {
      if (first + i >= p.top_k) break;
      const float weight = weights[first + i];
#pragma unroll
      for (int j = 0; j < kVector; ++j) sums[j] = fmaf(weight, ToFloat(packs[i].values[j]), sums[j]);
    }
  }
  StoreSums<T, kVector>(p, token * p.hidden + column, sums);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    moe_gather_rows_kernel(const T* x, const int32_t* sorted_pairs, int top_k, int hidden, T* out) {
  const int64_t sorted = blockIdx.x;
  const T* source = x + int64_t{sorted_pairs[sorted] / top_k} * hidden;
  T* target = out + sorted * hidden;
  for (int i = threadIdx.x; i < hidden; i += kThreads) target[i] = source[i];
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    moe_silu_mul_kernel(const T* gate, const T* up, int64_t count, T* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) out[i] = FromFloat<T>(Silu(ToFloat(gate[i])) * ToFloat(up[i]));
}

}  // namespace

cudaError_t LaunchMoeCombine(const void* outputs, const int32_t* positions, const MoeExpertsArgs& args,
                             cudaStream_t stream) {
  const CombineParams params = {outputs,    positions,    args.weights,   args.y, args.experts.hidden,
                                args.top_k, args.y_dtype, args.accumulate};
  return DispatchType(args.experts.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    constexpr int kVector = kVectorOf<T>;
    const bool vectors = params.hidden % kVector == 0 && IsAligned16(args.y);
    const int64_t width = kThreads * (vectors ? kVector : 1);
    const dim3 grid(static_cast<unsigned>(args.tokens), static_cast<unsigned>(CeilDiv(params.hidden, width)));
    const auto kernel = vectors ? moe_combine_kernel<T, kVector> : moe_combine_kernel<T, 1>;
    return LaunchDependentKernel(kernel, grid, dim3(kThreads), 0, stream, params);
  });
}

cudaError_t LaunchGatherRows(const void* x, DType dtype, const int32_t* sorted_pairs, int64_t pairs,
                             int top_k, int hidden, void* out, cudaStream_t stream) {
  return DispatchType(dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return LaunchKernel(moe_gather_rows_kernel<T>, dim3(static_cast<unsigned>(pairs)), dim3(kThreads), 0,
                        stream, static_cast<const T*>(x), sorted_pairs, top_k, hidden, static_cast<T*>(out));
  });
}

cudaError_t LaunchSiluMul(const void* gate, const void* up, DType dtype, int64_t count, void* out,
                          cudaStream_t stream) {
  return DispatchType(dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return LaunchKernel(moe_silu_mul_kernel<T>, dim3(static_cast<unsigned>(CeilDiv(count, kThreads))),
                        dim3(kThreads), 0, stream, static_cast<const T*>(gate), static_cast<const T*>(up),
                        count, static_cast<T*>(out));
  });
}

}  // namespace switchyard::cuda
