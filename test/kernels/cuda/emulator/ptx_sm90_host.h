// The operations of kernels/cuda/ptx_sm90.cuh on the host, written from the PTX instruction set manual:
// matrix descriptors are decoded and the 128-byte swizzle is applied to addresses, as the hardware does.
#pragma once
#include <cuda_runtime.h>

#include <cstring>
#include <type_traits>

#include "ptx_host.h"

namespace switchyard::cuda {

inline void FenceAsyncProxy() {}
inline void WarpgroupFence() {}
inline void WarpgroupCommit() {}
template <int kCount>
inline void PinAccumulators(float (&)[kCount]) {}
template <int kPending>
inline void WarpgroupWait() {}

// Element (row, k) of the matrix a descriptor points to, k counting elements along a row.
template <typename T>
float DescribedElement(uint64_t descriptor, int row, int k) {
  if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) != 0)
    emulator::Fail("a descriptor without 128-byte swizzle");
  const uint64_t start = (descriptor & 0x3fff) << 4;
  const uint64_t group_bytes = (descriptor >> 32 & 0x3fff) << 4;
  uint64_t address =
      start + static_cast<uint64_t>(row / 8) * group_bytes + static_cast<uint64_t>(row % 8) * 128;
  address += static_cast<uint64_t>(k) * 2;
  address ^= (address >> 7 & 7) << 4;
  uint16_t bits;
  std::memcpy(&bits, emulator::shared_memory + (address - kSharedWindow), sizeof(bits));
  return HalfOf<T>(bits, 0);
}

// m64nNk16: accumulator i of thread t holds row t / 32 * 16 + t % 32 / 4 + 8 * (i / 2 % 2), column i / 4 * 8
// + t % 4 * 2 + i % 2.
template <typename T, int kColumns>
inline void WarpgroupMultiply(float (&d)[kColumns / 2], uint64_t a, uint64_t b) {
  const int thread = static_cast<int>(threadIdx.x % 128);
  for (int half = 0; half < 2; ++half) {
    float x[16];
    const int row = thread / 32 * 16 + thread % 32 / 4 + 8 * half;
    for (int k = 0; k < 16; ++k) x[k] = DescribedElement<T>(a, row, k);
    for (int i = half * 2; i < kColumns / 2; i += i % 2 == 0 ? 1 : 3) {
      const int column = i / 4 * 8 + thread % 4 * 2 + i % 2;
      for (int k = 0; k < 16; ++k) d[i] += x[k] * DescribedElement<T>(b, column, k);
    }
  }
}

}  // namespace switchyard::cuda
