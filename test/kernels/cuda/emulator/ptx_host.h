// The operations of kernels/cuda/ptx.cuh on the host, written from the fragment layouts in the PTX
// instruction set manual.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace switchyard::cuda {

inline unsigned char* SharedMemory() { return emulator::shared_memory; }

// Shared memory's own addresses; its window begins at an address that is not a multiple of much.
constexpr uint32_t kSharedWindow = 128;
inline uint32_t SharedAddress(const void* pointer) {
  return kSharedWindow +
         static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - emulator::shared_memory);
}

inline void RequireAligned16(const void* address) {
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) emulator::Fail("a 16-byte access is not aligned");
}

inline void WaitForPrevious() { emulator::Current().waited = true; }

inline uint4 LoadOnce16(const void* address) {
  RequireAligned16(address);
  uint4 value;
  std::memcpy(&value, address, sizeof(value));
  return value;
}

template <typename T>
T LoadFresh(const T* address) {
  return *address;
}

inline uint4 LoadOnce16If(bool valid, const void* address) {
  return valid ? LoadOnce16(address) : uint4{0, 0, 0, 0};
}

inline uint4 LoadStream16(const void* address) { return LoadOnce16(address); }

// What is brought nearer must be there.
constexpr int kPrefetchBytes = 128;
inline void Prefetch(const void* address) { *static_cast<const volatile unsigned char*>(address); }

// The target holds NaNs until the copy lands, so that a read in between shows.
inline void CopyAsync16(void* shared, const void* global, bool valid) {
  RequireAligned16(shared);
  RequireAligned16(global);
  std::memset(shared, 0xff, 16);
  emulator::Current().open_copies.push_back({shared, global, valid});
}
inline void CopyAsyncCommit() {
  emulator::Fiber& fiber = emulator::Current();
  fiber.copy_groups.push_back(std::move(fiber.open_copies));
  fiber.open_copies.clear();
}
template <int kPending>
inline void CopyAsyncWait() {
  auto& groups = emulator::Current().copy_groups;
  for (; static_cast<int>(groups.size()) > kPending; groups.pop_front()) {
    for (const emulator::Copy& copy : groups.front()) {
      if (copy.valid) {
        std::memcpy(copy.to, copy.from, 16);
      } else {
        std::memset(copy.to, 0, 16);
      }
    }
  }
}

// Counts the groups of eight rows that do not spread over all 32 banks.
inline void CountBankConflicts(const std::array<const void*, emulator::kWarp>& rows) {
  if (emulator::Lane() != 0) return;
  for (int matrix = 0; matrix < 4; ++matrix) {
    unsigned banks = 0;
    for (int row = 0; row < 8; ++row) {
      banks |= 1u << (reinterpret_cast<uintptr_t>(rows[matrix * 8 + row]) / 16 % 8);
    }
    if (banks != 0xff) ++emulator::bank_conflicts;
  }
}

template <bool kTransposed>
inline void LoadMatrices(uint32_t (&out)[4], const void* row) {
  RequireAligned16(row);
  const auto rows = emulator::Exchange(row);
  CountBankConflicts(rows);
  const int lane = emulator::Lane();
  const auto element = [&](int matrix, int r, int c) {
    uint16_t bits;
    std::memcpy(&bits, static_cast<const unsigned char*>(rows[matrix * 8 + r]) + c * 2, 2);
    return static_cast<uint32_t>(bits);
  };
  for (int matrix = 0; matrix < 4; ++matrix) {
    const int major = lane / 4;
    const int minor = lane % 4 * 2;
    const uint32_t low = kTransposed ? element(matrix, minor, major) : element(matrix, major, minor);
    const uint32_t high = kTransposed ? element(matrix, minor + 1, major) : element(matrix, major, minor + 1);
    out[matrix] = low | high << 16;
  }
}

template <typename T>
float HalfOf(uint32_t word, int half);
template <>
inline float HalfOf<__nv_bfloat16>(uint32_t word, int half) {
  return __bfloat162float({static_cast<uint16_t>(word >> (16 * half))});
}
template <>
inline float HalfOf<__half>(uint32_t word, int half) {
  const uint16_t bits = static_cast<uint16_t>(word >> (16 * half));
  __half value;
  std::memcpy(&value, &bits, sizeof(bits));
  return __half2float(value);
}

// m16n8k16: a holds row r, column c in lane (r % 8) * 4 + c % 8 / 2, register r / 8 + 2 * (c / 8), half c %
// 2; b holds row k, column n in lane n * 4 + k % 8 / 2, register k / 8, half k % 2; d holds row r, column n
// in lane (r % 8) * 4 + n / 2, register 2 * (r / 8) + n % 2.
template <typename T>
inline void MultiplyAccumulate(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Operands {
    uint32_t a[4], b[2];
  };
  const auto all = emulator::Exchange(Operands{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  const int lane = emulator::Lane();
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + i / 2 * 8;
    const int column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 16; ++k) {
      const float x = HalfOf<T>(all[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2], k % 2);
      const float w = HalfOf<T>(all[column * 4 + k % 8 / 2].b[k / 8], k % 2);
      d[i] += x * w;
    }
  }
}

template <typename T>
uint32_t PackPair(float low, float high);
template <>
inline uint32_t PackPair<__nv_bfloat16>(float low, float high) {
  return __float2bfloat16_rn(low).bits | static_cast<uint32_t>(__float2bfloat16_rn(high).bits) << 16;
}
template <>
inline uint32_t PackPair<__half>(float low, float high) {
  const __half halves[2] = {__float2half_rn(low), __float2half_rn(high)};
  uint32_t word;
  std::memcpy(&word, halves, sizeof(word));
  return word;
}

template <typename T>
uint32_t FmaPair(uint32_t a, uint32_t b, uint32_t c) {
  const auto half = [&](int i) { return std::fma(HalfOf<T>(a, i), HalfOf<T>(b, i), HalfOf<T>(c, i)); };
  return PackPair<T>(half(0), half(1));
}

inline float Exp2(float x) { return std::exp2(x); }

}  // namespace switchyard::cuda
