// What the bench program's files share: failing loudly, device memory, timing, test data and the fp32
// reference.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <utility>
#include <vector>

#include "../kernels.h"

#define CHECK_CUDA(expression)                                                 \
  do {                                                                         \
    const cudaError_t status_of_expression = (expression);                     \
    if (status_of_expression != cudaSuccess) {                                 \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #expression, \
                   cudaGetErrorString(status_of_expression));                  \
      std::exit(1);                                                            \
    }                                                                          \
  } while (0)

namespace switchyard::cuda::bench {

// Device memory, filled with NaN bits so that what a kernel does not write shows.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(size_t bytes) : bytes_(bytes) {
    CHECK_CUDA(cudaMalloc(&data_, bytes > 0 ? bytes : 1));
    Poison();
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~DeviceBuffer() { cudaFree(data_); }

  void Poison() { CHECK_CUDA(cudaMemset(data_, 0xff, bytes_)); }
  template <typename T>
  T* As() const {
    return static_cast<T*>(data_);
  }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

template <typename T>
DeviceBuffer Upload(const std::vector<T>& values) {
  DeviceBuffer buffer(values.size() * sizeof(T));
  CHECK_CUDA(cudaMemcpy(buffer.data(), values.data(), buffer.bytes(), cudaMemcpyHostToDevice));
  return buffer;
}

template <typename T>
std::vector<T> Download(const DeviceBuffer& buffer) {
  std::vector<T> values(buffer.bytes() / sizeof(T));
  CHECK_CUDA(cudaMemcpy(values.data(), buffer.data(), buffer.bytes(), cudaMemcpyDeviceToHost));
  return values;
}

// `count` uniform random elements in [-scale, scale), different for every seed.
DeviceBuffer RandomBuffer(DType dtype, int64_t count, float scale, uint32_t seed);

// Elements of a buffer as floats on the host.
std::vector<float> DownloadFloats(const DeviceBuffer& buffer, DType dtype);

// y[i] = the experts' output for token tokens[i], in fp32 throughout; one thread an element, nothing shared
// with the library's kernels.
std::vector<float> ReferenceMoe(const MoeExpertsArgs& args, const std::vector<int64_t>& tokens);

// Time to spend on one measurement; a few runs are made in any case.
void SetMeasurementBudget(int milliseconds);

// Median microseconds of one call, after warm-up: call(i) enqueues the i-th run, i counting on so that inputs
// can rotate.
double MedianMicroseconds(cudaStream_t stream, const std::function<void(int)>& call);

// The same as a captured graph of `calls` calls, per call.
double MedianGraphMicroseconds(cudaStream_t stream, int calls, const std::function<void(int)>& call);

// What the card does at best, measured: device-to-device copies in GB/s (read plus written), and bf16 matrix
// products in TFLOP/s, or zero in a build without cuBLASLt; and copies from page-locked host memory in GB/s.
double MeasureCopyRate(cudaStream_t stream);
double MeasureUploadRate(cudaStream_t stream);
double MeasureMatrixRate(GemmContext& gemm, cudaStream_t stream);

// Relative error ||out - ref|| / ||ref||; infinite when anything is not finite.
double RelativeError(const std::vector<float>& out, const std::vector<float>& reference);

// Checks the router, the gated MLP, Linear, embedding rows and conversions; prints a line each and returns
// the number that failed. And prints a table of the times of products of few rows and of the router.
int CheckOtherKernels(GemmContext& gemm, cudaStream_t stream);
void TimeOtherKernels(GemmContext& gemm, cudaStream_t stream, double copy_rate);

// The same for the experts' kernels over quantized weights; and prints a table of their times.
int CheckCodedKernels(GemmContext& gemm, cudaStream_t stream);
void TimeCodedKernels(GemmContext& gemm, cudaStream_t stream, double copy_rate);

// The same for attention, top candidates, counters and copies of blocks.
int CheckDecoderKernels(cudaStream_t stream);

// Checks that kernels of decode steps, each of which may start before the one before it has ended, give what
// they give one by one; prints lines and returns the number that failed.
int CheckDecodeSteps(GemmContext& gemm, cudaStream_t stream);

// Times attention over a cache and top candidates, and prints tables; returns the number that were wrong.
int TimeDecoderKernels(cudaStream_t stream, double copy_rate, double matrix_rate);

}  // namespace switchyard::cuda::bench
