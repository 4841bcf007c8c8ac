// LaunchLinear for builds without cuBLASLt: a plain tiled product in fp32.
#include <memory>
#include <new>

#include "../common/launch.h"
#include "../common/numeric.cuh"
#include "../kernels.h"

namespace switchyard::cuda {

class GemmContext {
 public:
  cudaError_t Open() { return counter_.Open(); }
  int* counter() const { return counter_.get(); }

 private:
  BlockCounter counter_;
};

namespace {

constexpr int kTile = 32;
constexpr int kPitch = kTile + 1;
constexpr int kRowsPerThread = 4;
constexpr int kThreadRows = kTile / kRowsPerThread;

// A block computes kTile x kTile outputs; a thread kRowsPerThread rows of one column.
template <typename T>
__global__ void __launch_bounds__(kTile* kThreadRows)
    linear_plain_kernel(const LinearArgs p, int64_t n_stride, int64_t k_stride) {
  float* a = reinterpret_cast<float*>(SharedMemory());
  float* w = a + kTile * kPitch;
  const int x = threadIdx.x % kTile;
  const int y = threadIdx.x / kTile;
  const int64_t row0 = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t column0 = static_cast<int64_t>(blockIdx.x) * kTile;
  float sums[kRowsPerThread] = {};
  for (int64_t k0 = 0; k0 < p.k; k0 += kTile) {
    for (int i = y; i < kTile; i += kThreadRows) {
      const bool inside_k = k0 + x < p.k;
      const int64_t row = row0 + i;
      const int64_t column = column0 + i;
      a[i * kPitch + x] =
          inside_k && row < p.m ? ToFloat(static_cast<const T*>(p.a)[row * p.a_stride + k0 + x]) : 0.0f;
      w[i * kPitch + x] = inside_k && column < p.n
                              ? ToFloat(static_cast<const T*>(p.w)[column * n_stride + (k0 + x) * k_stride])
                              : 0.0f;
    }
    __syncthreads();
    for (int k = 0; k < kTile; ++k) {
#pragma unroll
      for (int i = 0; i < kRowsPerThread; ++i) {
        sums[i] = fmaf(a[(y + i * kThreadRows) * kPitch + k], w[x * kPitch + k], sums[i]);
      }
    }
    __syncthreads();
  }
  const int64_t column = column0 + x;
  if (column >= p.n) return;
  const float bias = p.bias != nullptr ? ToFloat(static_cast<const T*>(p.bias)[column]) : 0.0f;
  for (int i = 0; i < kRowsPerThread; ++i) {
    const int64_t row = row0 + y + i * kThreadRows;
    if (row < p.m) StoreAs(p.out, p.out_dtype, row * p.out_stride + column, sums[i] + bias);
  }
}

}  // namespace

cudaError_t CreateGemmContext(GemmContext** context) {
  std::unique_ptr<GemmContext> made(new (std::nothrow) GemmContext());
  if (made == nullptr) return cudaErrorMemoryAllocation;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(made->Open());
  *context = made.release();
  return cudaSuccess;
}

void DestroyGemmContext(GemmContext* context) { delete context; }

int* BlockCounterOf(const GemmContext& gemm) { return gemm.counter(); }

bool GemmUsesCublasLt() { return false; }

cudaError_t LaunchLinear(GemmContext&, const LinearArgs& args, cudaStream_t stream) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CheckLinearArgs(args));
  if (args.coded) return LaunchCodedLinear(args, stream);
  if (args.m == 0) return cudaSuccess;
  if (CeilDiv(args.m, kTile) > kMaxGridY) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(CeilDiv(args.n, kTile)),
                  static_cast<unsigned>(CeilDiv(args.m, kTile)));
  const int64_t n_stride = args.transposed ? 1 : args.w_stride;
  const int64_t k_stride = args.transposed ? args.w_stride : 1;
  return DispatchType(args.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return LaunchKernel(linear_plain_kernel<T>, grid, dim3(kTile * kThreadRows),
                        2 * kTile * kPitch * sizeof(float), stream, args, n_stride, k_stride);
  });
}

}  // namespace switchyard::cuda
