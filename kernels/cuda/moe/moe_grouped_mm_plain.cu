// The grouped product without tensor cores: any dtype, any alignment, either layout. For fp32 checks and for
// sizes whose rows do not start on 16 bytes.
#include "../common/coded_rows.cuh"
#include "../common/numeric.cuh"
#include "moe_internal.h"

namespace switchyard::cuda {
namespace {

constexpr int kTile = 64;   // rows and columns of a step
constexpr int kDepth = 16;  // its length along k
constexpr int kPitch = kTile + 1;
constexpr int kSide = 16;  // threads along rows and along columns
constexpr int kPerThread = kTile / kSide;
constexpr int kThreads = kSide * kSide;

// Strides of element (n, k) of a weight matrix.
struct WeightStrides {
  int64_t n, k;
};

// One step's operands, widened, with k as the slow axis.
struct SharedTile {
  float* a;
  float* b0;
  float* b1;
};

template <typename T>
__device__ void LoadRows(const GroupedMmParams& p, const MoeTile& tile, int row0, int k0, float* out) {
  for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
    const int row = row0 + i / kDepth;
    const int k = k0 + i % kDepth;
    float value = 0.0f;
    if (row < tile.rows && k < p.k) {
      const int sorted = tile.begin + row;
      const int64_t source = p.top_k > 0 ? p.sorted_pairs[sorted] / p.top_k : sorted;
      value = ToFloat(static_cast<const T*>(p.a)[source * p.k + k]);
    }
    out[i % kDepth * kPitch + i / kDepth] = value;
  }
}

// One weight matrix, element by element.
template <typename T>
struct PlainMatrix {
  __device__ PlainMatrix(const KernelPointers& pointers, int expert, WeightStrides strides_)
      : data(pointers.At<T>(expert)), strides(strides_) {}
  __device__ float Element(int n, int k) const { return ToFloat(data[n * strides.n + k * strides.k]); }
  const T* data;
  WeightStrides strides;
};
struct QuantizedMatrix {
  __device__ QuantizedMatrix(const KernelPointers& pointers, int expert, WeightStrides)
      : rows(pointers.At<void>(expert)) {}
  __device__ float Element(int n, int k) const { return rows.Element(n, k); }
  CodedRows rows;
};

template <typename Matrix>
__device__ void LoadWeightTile(const Matrix& b, int n, int k, int column0, int k0, float* out) {
  for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
    const int column = column0 + i / kDepth;
    const int at = k0 + i % kDepth;
    const bool inside = column < n && at < k;
    out[i % kDepth * kPitch + i / kDepth] = inside ? b.Element(column, at) : 0.0f;
  }
}

__device__ void Accumulate(const float* a, const float* b, float (&sums)[kPerThread][kPerThread]) {
  const int row = threadIdx.x / kSide;
  const int column = threadIdx.x % kSide;
#pragma unroll 4
  for (int k = 0; k < kDepth; ++k) {
    float values[kPerThread];
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) values[j] = b[k * kPitch + column + j * kSide];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const float value = a[k * kPitch + row + i * kSide];
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) sums[i][j] = fmaf(value, values[j], sums[i][j]);
    }
  }
}

template <typename T, typename Matrix, bool kGateUp>
__device__ void MultiplyRows(const GroupedMmParams& p, WeightStrides strides, const MoeTile& tile, int row0,
                             const SharedTile& shared) {
  const int column0 = blockIdx.x * kTile;
  const Matrix b0(p.b0, tile.expert, strides);
  const Matrix b1(kGateUp ? p.b1 : p.b0, tile.expert, strides);
  float sums0[kPerThread][kPerThread] = {};
  float sums1[kPerThread][kPerThread] = {};
  for (int k0 = 0; k0 < p.k; k0 += kDepth) {
    LoadRows<T>(p, tile, row0, k0, shared.a);
    LoadWeightTile(b0, p.n, p.k, column0, k0, shared.b0);
    if constexpr (kGateUp) LoadWeightTile(b1, p.n, p.k, column0, k0, shared.b1);
    __syncthreads();
    Accumulate(shared.a, shared.b0, sums0);
    if constexpr (kGateUp) Accumulate(shared.a, shared.b1, sums1);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int row = row0 + threadIdx.x / kSide + i * kSide;
    if (row >= tile.rows) continue;
    const int64_t target = tile.begin + row;
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int column = column0 + threadIdx.x % kSide + j * kSide;
      if (column >= p.n) continue;
      const float value = kGateUp ? Silu(sums0[i][j]) * sums1[i][j] : sums0[i][j];
      static_cast<T*>(p.out)[target * p.n + column] = FromFloat<T>(value);
    }
  }
}

template <typename T, typename Matrix, bool kGateUp>
__global__ void __launch_bounds__(kThreads)
    moe_grouped_mm_plain_kernel(const GroupedMmParams p, const WeightStrides strides) {
  if (static_cast<int>(blockIdx.y) >= *p.num_tiles) return;
  const MoeTile tile = p.tiles[blockIdx.y];
  float* base = reinterpret_cast<float*>(SharedMemory());
  const SharedTile shared = {base, base + kDepth * kPitch, base + 2 * kDepth * kPitch};
  for (int row0 = 0; row0 < tile.rows; row0 += kTile)
    MultiplyRows<T, Matrix, kGateUp>(p, strides, tile, row0, shared);
}

}  // namespace

cudaError_t LaunchGroupedMmPlain(const GroupedMmParams& params, DType dtype, bool gate_up, bool transposed,
                                 int max_tiles, cudaStream_t stream) {
  if (max_tiles > kMaxGridY) return cudaErrorInvalidValue;
  const WeightStrides strides = {transposed ? 1 : params.b_stride, transposed ? params.b_stride : 1};
  const dim3 grid(static_cast<unsigned>(CeilDiv(params.n, kTile)), static_cast<unsigned>(max_tiles));
  const size_t shared_bytes = 3 * kDepth * kPitch * sizeof(float);
  return DispatchType(dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const auto launch = [&](auto kernel) {
      return LaunchKernel(kernel, grid, dim3(kThreads), shared_bytes, stream, params, strides);
    };
    if (params.coded) {
      return launch(gate_up ? moe_grouped_mm_plain_kernel<T, QuantizedMatrix, true>
                            : moe_grouped_mm_plain_kernel<T, QuantizedMatrix, false>);
    }
    return launch(gate_up ? moe_grouped_mm_plain_kernel<T, PlainMatrix<T>, true>
                          : moe_grouped_mm_plain_kernel<T, PlainMatrix<T>, false>);
  });
}

}  // namespace switchyard::cuda
