// Starting kernels and checking what came of it.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <type_traits>

#include "../../common/moe_planner.h"
#include "../../common/types.h"
#include "../kernels.h"

#define SWITCHYARD_RETURN_IF_CUDA_ERROR(expression)                       \
  do {                                                                    \
    const cudaError_t status_of_expression = (expression);                \
    if (status_of_expression != cudaSuccess) return status_of_expression; \
  } while (0)

namespace switchyard::cuda {

// A grid's second and third extents end here.
constexpr int64_t kMaxGridY = 65535;

// What any launch of `kernel` says; more than 48 KiB of shared memory has to be asked for first.
template <typename... Parameters>
cudaError_t Configure(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                      cudaStream_t stream, cudaLaunchConfig_t* config) {
  if (shared_bytes > 48 * 1024) {
    SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                         static_cast<int>(shared_bytes)));
  }
  config->gridDim = grid;
  config->blockDim = block;
  config->dynamicSmemBytes = shared_bytes;
  config->stream = stream;
  return cudaSuccess;
}

// Launches `kernel` once everything before it on the stream has ended.
template <typename... Parameters, typename... Arguments>
cudaError_t LaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                         cudaStream_t stream, Arguments... arguments) {
  cudaLaunchConfig_t config = {};
  SWITCHYARD_RETURN_IF_CUDA_ERROR(Configure(kernel, grid, block, shared_bytes, stream, &config));
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// Whether the current device starts a kernel while the one before it ends, and this build's code for it
// waits: code for sm_80, which later devices run, too, does not. All kernels of a build have the same
// targets, so the first one asked about speaks for all.
inline cudaError_t StartsEarly(const void* kernel, bool* early) {
  constexpr int kMostDevices = 64;
  constexpr int kOldestDriver = 12030;  // that captures such launches
  enum : signed char { kUnknown, kNo, kYes };
  static std::array<std::atomic<signed char>, kMostDevices> known = {};
  int device = 0;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device));
  *early = false;
  if (device >= kMostDevices) return cudaSuccess;
  signed char answer = known[static_cast<size_t>(device)].load(std::memory_order_relaxed);
  if (answer == kUnknown) {
    int driver = 0;
    cudaFuncAttributes attributes = {};
    SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaDriverGetVersion(&driver));
    SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaFuncGetAttributes(&attributes, kernel));
    answer = driver >= kOldestDriver && attributes.ptxVersion >= 90 ? kYes : kNo;
    known[static_cast<size_t>(device)].store(answer, std::memory_order_relaxed);
  }
  *early = answer == kYes;
  return cudaSuccess;
}

// Launches a kernel of which every thread calls WaitForPrevious (ptx.cuh, which says what it may do before):
// where the device can, its blocks start as soon as those of the kernel before it on the stream have all
// called that function, or ended, and there is room for them. Copies and clearings are always waited for.
template <typename... Parameters, typename... Arguments>
cudaError_t LaunchDependentKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                                  cudaStream_t stream, Arguments... arguments) {
  cudaLaunchConfig_t config = {};
  SWITCHYARD_RETURN_IF_CUDA_ERROR(Configure(kernel, grid, block, shared_bytes, stream, &config));
  bool early = false;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(StartsEarly(reinterpret_cast<const void*>(kernel), &early));
  cudaLaunchAttribute attribute = {};
  if (early) {
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// Whether a block of the present device may have so much shared memory.
inline cudaError_t FitsSharedMemory(size_t bytes, bool* fits) {
  int device = 0;
  int most = 0;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device));
  SWITCHYARD_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  *fits = bytes <= static_cast<size_t>(most);
  return cudaSuccess;
}

// Of the current device.
inline cudaError_t CountMultiprocessors(int* count) {
  int device = 0;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device));
  return cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device);
}

inline size_t ElementSize(DType dtype) { return static_cast<size_t>(DTypeSize(dtype)); }

inline bool IsSupported(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

template <typename T>
struct TypeTag {
  using Type = T;
};

// Calls body(TypeTag<T>()) with the element type T of `dtype`.
template <typename Body>
cudaError_t DispatchType(DType dtype, Body body) {
  switch (dtype) {
    case DType::kFloat32:
      return body(TypeTag<float>());
    case DType::kFloat16:
      return body(TypeTag<__half>());
    case DType::kBFloat16:
      return body(TypeTag<__nv_bfloat16>());
  }
  return cudaErrorInvalidValue;
}

inline cudaError_t CheckLinearArgs(const LinearArgs& args) {
  const bool sizes = args.m >= 0 && args.n > 0 && args.k > 0 && args.a_stride >= args.k &&
                     args.out_stride >= args.n &&
                     (args.coded || args.w_stride >= (args.transposed ? args.n : args.k));
  const bool types =
      IsSupported(args.dtype) && (args.out_dtype == args.dtype || args.out_dtype == DType::kFloat32);
  return sizes && types ? cudaSuccess : cudaErrorInvalidValue;
}

// A number in device memory that is zero whenever no kernel of the context's stream is running: blocks count
// in it which of them is the last, which sets it back.
class BlockCounter {
 public:
  BlockCounter() = default;
  BlockCounter(const BlockCounter&) = delete;
  BlockCounter& operator=(const BlockCounter&) = delete;
  ~BlockCounter() {
    if (counter_ != nullptr) cudaFree(counter_);
  }
  cudaError_t Open() {
    SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaMalloc(&counter_, sizeof(int)));
    SWITCHYARD_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(counter_, 0, sizeof(int), nullptr));
    return cudaStreamSynchronize(nullptr);
  }
  int* get() const { return static_cast<int*>(counter_); }

 private:
  void* counter_ = nullptr;
};
int* BlockCounterOf(const GemmContext& gemm);

// LaunchLinear where w is coded.
cudaError_t LaunchCodedLinear(const LinearArgs& args, cudaStream_t stream);

// out[m, n] += bias[n], for fp32 outputs.
cudaError_t LaunchAddBias(const LinearArgs& args, cudaStream_t stream);

inline bool IsAligned16(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

}  // namespace switchyard::cuda
