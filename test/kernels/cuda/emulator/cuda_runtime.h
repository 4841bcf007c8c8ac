// A host emulation of the part of the CUDA runtime and language that kernels/cuda uses, so that its sources,
// unchanged, compile with a C++ compiler and run on the CPU. See emulator.h for how threads run.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#define __host__
#define __device__
#define __global__
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorNotSupported = 801,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
using cudaStream_t = void*;
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int programmaticStreamSerializationAllowed;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  const cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

#include "device_runtime.h"
#include "emulator.h"

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = emulator::multiprocessors;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = emulator::compute_capability_major;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = emulator::shared_memory_limit;
      break;
  }
  return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int bytes) {
  if (bytes > emulator::shared_memory_limit) return cudaErrorInvalidValue;
  std::lock_guard<std::recursive_mutex> lock(emulator::LaunchMutex());
  emulator::shared_memory_granted[kernel] = bytes;
  return cudaSuccess;
}
struct cudaFuncAttributes {
  int maxThreadsPerBlock, ptxVersion;
};
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  attributes->maxThreadsPerBlock = emulator::kernel_threads_limit;
  attributes->ptxVersion = 90;  // kernels wait for the one before, on whatever device
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  if (!emulator::recording) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
#define CUDART_CB
inline cudaError_t cudaLaunchHostFunc(cudaStream_t, void (*function)(void*), void* argument) {
  if (!emulator::recording) function(argument);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  std::lock_guard<std::recursive_mutex> lock(emulator::LaunchMutex());
  const auto granted = emulator::shared_memory_granted.find(reinterpret_cast<const void*>(kernel));
  const size_t limit = granted == emulator::shared_memory_granted.end() ? 48 * 1024 : granted->second;
  const dim3 grid = config->gridDim;
  const dim3 block = config->blockDim;
  if (grid.x == 0 || grid.y == 0 || grid.y > 65535 || block.x == 0 || block.x > 1024 || block.y != 1 ||
      config->dynamicSmemBytes > limit) {
    return cudaErrorInvalidConfiguration;
  }
  if (emulator::recording) return cudaSuccess;
  emulator::dependent =
      std::any_of(config->attrs, config->attrs + config->numAttrs, [](const auto& attribute) {
        return attribute.id == cudaLaunchAttributeProgrammaticStreamSerialization &&
               attribute.val.programmaticStreamSerializationAllowed != 0;
      });
  emulator::RunGrid(grid, block.x, config->dynamicSmemBytes, [&] { kernel(arguments...); });
  return cudaSuccess;
}

inline void __syncthreads() { emulator::BlockBarrier(); }
inline void __threadfence() {}
inline void __syncwarp() { emulator::Give(0); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulator::ExchangeWith(value, emulator::Lane() ^ mask);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, int distance) {
  const int lane = emulator::Lane();
  return emulator::ExchangeWith(value, lane >= distance ? lane - distance : lane);
}
template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
  return emulator::ExchangeWith(value, lane);
}
inline int __any_sync(unsigned, int value) {
  int any = 0;
  for (const int other : emulator::Exchange(value)) any |= other;
  return any != 0;
}
inline unsigned __match_any_sync(unsigned, int value) {
  const auto values = emulator::Exchange(value);
  unsigned equal = 0;
  for (int lane = 0; lane < emulator::kWarp; ++lane)
    equal |= static_cast<unsigned>(values[lane] == value) << lane;
  return equal;
}
inline unsigned __reduce_max_sync(unsigned, unsigned value) {
  const auto values = emulator::Exchange(value);
  return *std::max_element(values.begin(), values.end());
}
inline unsigned __reduce_min_sync(unsigned, unsigned value) {
  const auto values = emulator::Exchange(value);
  return *std::min_element(values.begin(), values.end());
}
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t bytes = static_cast<uint64_t>(high) << 32 | low;
  unsigned chosen = 0;
  for (int i = 0; i < 4; ++i)
    chosen |= static_cast<unsigned>(bytes >> (selector >> (4 * i) & 7) * 8 & 0xff) << (8 * i);
  return chosen;
}
inline int atomicAdd(int* address, int value) { return std::exchange(*address, *address + value); }
inline unsigned atomicInc(unsigned* address, unsigned last) {
  return std::exchange(*address, *address >= last ? 0 : *address + 1);
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __expf(float x) { return std::exp(x); }
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
using std::fmaf;
