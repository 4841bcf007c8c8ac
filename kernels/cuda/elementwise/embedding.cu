// Embedding rows, and conversion between element types.
#include "../common/coded_rows.cuh"
#include "../common/launch.h"
#include "../common/numeric.cuh"
#include "../kernels.h"

namespace switchyard::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    embedding_rows_kernel(const T* table, int hidden, const int64_t* ids, void* out, DType out_dtype) {
  WaitForPrevious();
  const int64_t row = blockIdx.x;
  const T* source = table + ids[row] * hidden;
  for (int i = threadIdx.x; i < hidden; i += kThreads) {
    StoreAs(out, out_dtype, row * hidden + i, ToFloat(source[i]));
  }
}

__global__ void __launch_bounds__(kThreads)
    coded_embedding_rows_kernel(const void* table, int hidden, const int64_t* ids, float* out) {
  WaitForPrevious();
  const CodedRows rows(table);
  const int64_t row = blockIdx.x;
  const int64_t id = ids[row];
  for (int k = threadIdx.x * kCodeChunk; k < hidden; k += kThreads * kCodeChunk) {
    float elements[kCodeChunk];
    rows.Elements(rows.Load(id, k), elements);
#pragma unroll
    for (int i = 0; i < kCodeChunk; ++i) out[row * hidden + k + i] = elements[i];
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    convert_kernel(const T* in, void* out, DType out_dtype, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  WaitForPrevious();
  if (i < count) StoreAs(out, out_dtype, i, ToFloat(in[i]));
}

}  // namespace

cudaError_t LaunchEmbeddingRows(const void* table, DType dtype, int hidden, const int64_t* ids, int64_t count,
                                void* out, DType out_dtype, cudaStream_t stream) {
  if (hidden <= 0 || count < 0 || (out_dtype != dtype && out_dtype != DType::kFloat32))
    return cudaErrorInvalidValue;
  if (count == 0) return cudaSuccess;
  return DispatchType(dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return LaunchDependentKernel(embedding_rows_kernel<T>, dim3(static_cast<unsigned>(count)), dim3(kThreads),
                                 0, stream, static_cast<const T*>(table), hidden, ids, out, out_dtype);
  });
}

cudaError_t LaunchCodedEmbeddingRows(const void* table, int hidden, const int64_t* ids, int64_t count,
                                     float* out, cudaStream_t stream) {
  if (hidden <= 0 || hidden % kCodeChunk != 0 || count < 0) return cudaErrorInvalidValue;
  if (count == 0) return cudaSuccess;
  return LaunchDependentKernel(coded_embedding_rows_kernel, dim3(static_cast<unsigned>(count)),
                               dim3(kThreads), 0, stream, table, hidden, ids, out);
}

cudaError_t LaunchConvert(const void* in, DType in_dtype, void* out, DType out_dtype, int64_t count,
                          cudaStream_t stream) {
  if (count < 0 || !IsSupported(out_dtype)) return cudaErrorInvalidValue;
  if (count == 0) return cudaSuccess;
  return DispatchType(in_dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return LaunchDependentKernel(convert_kernel<T>, dim3(static_cast<unsigned>(CeilDiv(count, kThreads))),
                                 dim3(kThreads), 0, stream, static_cast<const T*>(in), out, out_dtype, count);
  });
}

}  // namespace switchyard::cuda
