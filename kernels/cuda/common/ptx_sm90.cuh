// The instructions of sm_90a: warpgroup products that read both operands from shared memory, and their
// ordering.
#pragma once
#include <type_traits>

#include "ptx.cuh"

namespace switchyard::cuda {

// Describes a tile of 16-bit elements in shared memory whose rows are 64 elements, swizzled as SwizzleByK
// does, and which starts on 1,024 bytes (plus 32 for every further 16 elements along k): rows in groups of
// eight, 1,024 bytes apart, 128-byte swizzle.
__device__ inline uint64_t MatrixDescriptor(const void* shared) {
  constexpr uint64_t kGroupBytes = 1024;
  constexpr uint64_t kSwizzle128 = 1;
  const uint64_t start = (SharedAddress(shared) & 0x3ffff) >> 4;
  return start | uint64_t{1} << 16 | (kGroupBytes >> 4) << 32 | kSwizzle128 << 62;
}

}  // namespace switchyard::cuda

#ifndef __CUDACC__
#include <ptx_sm90_host.h>
#else

namespace switchyard::cuda {

// Makes shared memory written by ordinary stores and cp.async visible to the warpgroup products, before a
// barrier.
__device__ inline void FenceAsyncProxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Orders accumulators in registers before the first product of a batch.
__device__ inline void WarpgroupFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void WarpgroupCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most kPending of the warpgroup's committed batches are still under way.
template <int kPending>
__device__ inline void WarpgroupWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps reads and writes of accumulators on their side of a wait or a fence: the compiler does not know what
// those order.
template <int kCount>
__device__ inline void PinAccumulators(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// Sixteen accumulators: their operand list, and their names in an instruction.
#define SWITCHYARD_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SWITCHYARD_D16(i) SWITCHYARD_D4(i), SWITCHYARD_D4(i + 4), SWITCHYARD_D4(i + 8), SWITCHYARD_D4(i + 12)
#define SWITCHYARD_R0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define SWITCHYARD_R1 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SWITCHYARD_R2 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define SWITCHYARD_R3 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SWITCHYARD_WGMMA(columns, type, names, a_name, b_name, ...)                                \
  asm volatile(                                                                                    \
      "{\n.reg .pred accumulate;\nsetp.eq.u32 accumulate, 1, 1;\n"                                 \
      "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {" names "}, " a_name \
      ", " b_name ", accumulate, 1, 1, 0, 0;\n}"                                                   \
      : __VA_ARGS__                                                                                \
      : "l"(a), "l"(b))
#define SWITCHYARD_WGMMA_32(type) SWITCHYARD_WGMMA("32", type, SWITCHYARD_R0, "%16", "%17", SWITCHYARD_D16(0))
#define SWITCHYARD_WGMMA_64(type)                                                                 \
  SWITCHYARD_WGMMA("64", type, SWITCHYARD_R0 ", " SWITCHYARD_R1, "%32", "%33", SWITCHYARD_D16(0), \
                   SWITCHYARD_D16(16))
#define SWITCHYARD_WGMMA_96(type)                                                                 \
  SWITCHYARD_WGMMA("96", type, SWITCHYARD_R0 ", " SWITCHYARD_R1 ", " SWITCHYARD_R2, "%48", "%49", \
                   SWITCHYARD_D16(0), SWITCHYARD_D16(16), SWITCHYARD_D16(32))
#define SWITCHYARD_WGMMA_128(type)                                                                      \
  SWITCHYARD_WGMMA("128", type, SWITCHYARD_R0 ", " SWITCHYARD_R1 ", " SWITCHYARD_R2 ", " SWITCHYARD_R3, \
                   "%64", "%65", SWITCHYARD_D16(0), SWITCHYARD_D16(16), SWITCHYARD_D16(32),             \
                   SWITCHYARD_D16(48))

// d[64, kColumns] += a[64, 16] . b[kColumns, 16]^T over a warpgroup, fp32 accumulators; asynchronous until
// waited for.
template <typename T, int kColumns>
__device__ inline void WarpgroupMultiply(float (&d)[kColumns / 2], uint64_t a, uint64_t b) {
  constexpr bool kHalf = std::is_same_v<T, __half>;
  if constexpr (kColumns == 32 && kHalf) {
    SWITCHYARD_WGMMA_32("f16");
  } else if constexpr (kColumns == 32) {
    SWITCHYARD_WGMMA_32("bf16");
  } else if constexpr (kColumns == 64 && kHalf) {
    SWITCHYARD_WGMMA_64("f16");
  } else if constexpr (kColumns == 64) {
    SWITCHYARD_WGMMA_64("bf16");
  } else if constexpr (kColumns == 96 && kHalf) {
    SWITCHYARD_WGMMA_96("f16");
  } else if constexpr (kColumns == 96) {
    SWITCHYARD_WGMMA_96("bf16");
  } else if constexpr (kColumns == 128 && kHalf) {
    SWITCHYARD_WGMMA_128("f16");
  } else if constexpr (kColumns == 128) {
    SWITCHYARD_WGMMA_128("bf16");
  } else {
    static_assert(kColumns == 32, "no instruction of this width here");
  }
}

#undef SWITCHYARD_D4
#undef SWITCHYARD_D16
#undef SWITCHYARD_R0
#undef SWITCHYARD_R1
#undef SWITCHYARD_R2
#undef SWITCHYARD_R3
#undef SWITCHYARD_WGMMA
#undef SWITCHYARD_WGMMA_32
#undef SWITCHYARD_WGMMA_64
#undef SWITCHYARD_WGMMA_96
#undef SWITCHYARD_WGMMA_128

}  // namespace switchyard::cuda

#endif  // __CUDACC__
