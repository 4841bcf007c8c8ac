// The part of the CUDA runtime that manages a device, on the host: device memory is host memory, streams do
// everything at once. The environment describes the device: SWITCHYARD_EMULATED_MEMORY is its memory in bytes
// (default 1 GB), SWITCHYARD_EMULATED_DEVICES how many there are (default 1).
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "emulator.h"

using cudaEvent_t = void*;
struct cudaDeviceProp {
  char name[256];
  int pciDomainID, pciBusID, pciDeviceID, major, minor;
};
constexpr unsigned cudaStreamNonBlocking = 1, cudaHostAllocDefault = 0, cudaEventDisableTiming = 2;

namespace emulator {

inline size_t Setting(const char* name, size_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : static_cast<size_t>(std::strtoull(text, nullptr, 10));
}
inline size_t TotalMemory() { return Setting("SWITCHYARD_EMULATED_MEMORY", size_t{1} << 30); }
inline int DeviceCount() { return static_cast<int>(Setting("SWITCHYARD_EMULATED_DEVICES", 1)); }

struct Memory {
  std::mutex mutex;
  std::map<void*, size_t> blocks;
  size_t used = 0;
};
// Leaked: device memory may be freed while the process exits.
inline Memory& DeviceMemory() {
  static Memory* memory = new Memory;
  return *memory;
}

}  // namespace emulator

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidValue:
      return "invalid argument";
    default:
      return "an error of the emulation";
  }
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = emulator::DeviceCount();
  return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  return device >= 0 && device < emulator::DeviceCount() ? cudaSuccess : cudaErrorInvalidDevice;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (cudaSetDevice(device) != cudaSuccess) return cudaErrorInvalidDevice;
  std::snprintf(properties->name, sizeof(properties->name), "Emulated GPU");
  properties->pciDomainID = 0;
  properties->pciBusID = device + 1;
  properties->pciDeviceID = 0;
  properties->major = emulator::compute_capability_major;
  properties->minor = 0;
  return cudaSuccess;
}
inline cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  emulator::Memory& memory = emulator::DeviceMemory();
  std::lock_guard<std::mutex> lock(memory.mutex);
  *total = emulator::TotalMemory();
  *free = *total - std::min(*total, memory.used);
  return cudaSuccess;
}
// Filled with NaNs, as nothing may rely on what new memory holds.
inline cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  emulator::Memory& memory = emulator::DeviceMemory();
  std::lock_guard<std::mutex> lock(memory.mutex);
  if (memory.used + bytes > emulator::TotalMemory()) return cudaErrorMemoryAllocation;
  *pointer = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*pointer == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*pointer, 0xff, bytes);
  memory.blocks[*pointer] = bytes;
  memory.used += bytes;
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  emulator::Memory& memory = emulator::DeviceMemory();
  std::lock_guard<std::mutex> lock(memory.mutex);
  const auto found = memory.blocks.find(pointer);
  if (found == memory.blocks.end()) return cudaErrorInvalidValue;
  memory.used -= found->second;
  memory.blocks.erase(found);
  std::free(pointer);
  return cudaSuccess;
}
inline cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  *pointer = std::malloc(bytes);
  return *pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t) {
  if (!emulator::recording) std::memset(pointer, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
// There is nothing to measure.
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1.0f;
  return cudaSuccess;
}
