// The instructions C++ has no name for: asynchronous copies, matrix loads and tensor-core products (sm_80 and
// later).
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#ifndef __CUDACC__
// A host build brings these operations itself, on its include path.
#include <ptx_host.h>
#else

namespace switchyard::cuda {

// The block's dynamic shared memory, 128-byte aligned.
__device__ inline unsigned char* SharedMemory() {
  extern __shared__ __align__(128) unsigned char switchyard_shared_memory[];
  return switchyard_shared_memory;
}

__device__ inline uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// For every thread of a kernel that LaunchDependentKernel launches, on every way to its end: waits until the
// kernel before it on the stream has ended and what it wrote is there. Only then may the next kernel start:
// whatever a thread does before it calls this function, all kernels but the one just before have ended.
//
// Before, a thread writes nothing to global memory, since the kernel before may still read it, and reads
// - what copies alone write, as no kernel overlaps one: weights, pointers to them, where rows lie;
// - what is known to be older than the kernel just before, past the first-level cache (LoadFresh,
//   CopyAsync16), which may not have been cleared since it was written.
// A kernel ends after the one before it, which has ended after the one before that: all that a thread reads
// or writes afterwards is as if kernels ran one by one.
__device__ inline void WaitForPrevious() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n\tgriddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// A 16-byte load of data nobody reads again soon. Not by the instruction for what never changes, which the
// assembler moves behind WaitForPrevious.
__device__ inline uint4 LoadOnce16(const void* address) {
  uint4 value;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
}

// The same, or zeros without reading anything when !valid; no branch depends on it, so that many are in
// flight.
__device__ inline uint4 LoadOnce16If(bool valid, const void* address) {
  uint4 value;
  asm volatile(
      "{\n\t.reg .pred valid;\n\tsetp.ne.s32 valid, %5, 0;\n\tmov.u32 %0, 0;\n\tmov.u32 %1, 0;\n\t"
      "mov.u32 %2, 0;\n\tmov.u32 %3, 0;\n\t"
      "@valid ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];\n\t}"
      : "=&r"(value.x), "=&r"(value.y), "=&r"(value.z), "=&r"(value.w)
      : "l"(address), "r"(static_cast<int>(valid)));
  return value;
}

// LoadOnce16 of data whose neighbours are needed soon.
__device__ inline uint4 LoadStream16(const void* address) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
}

// A load of what other blocks of the same kernel wrote, or a kernel that may have ended since this one began,
// past the first-level cache, which may hold it as it was before.
template <typename T>
__device__ inline T LoadFresh(const T* address) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  using Bits =
      std::conditional_t<sizeof(T) == 4, uint32_t, std::conditional_t<sizeof(T) == 8, uint2, uint4> >;
  union {
    Bits bits;
    T value;
  } loaded = {__ldcg(reinterpret_cast<const Bits*>(address))};
  return loaded.value;
}

// Brings the line of the second-level cache with an address there, if it is not.
constexpr int kPrefetchBytes = 128;
__device__ inline void Prefetch(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

// Starts copying 16 bytes to shared memory; writes zeros, and reads nothing, when !valid.
__device__ inline void CopyAsync16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(SharedAddress(shared)),
               "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
__device__ inline void CopyAsyncCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most kPending of this thread's committed groups are still under way.
template <int kPending>
__device__ inline void CopyAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8x8 matrices of 16-bit elements. Lane l gives the address of row l % 8 of matrix l / 8, and receives
// of each matrix row l / 4, columns 2 * (l % 4) and the next (rows and columns exchanged when kTransposed).
template <bool kTransposed>
__device__ inline void LoadMatrices(uint32_t (&out)[4], const void* row) {
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(SharedAddress(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(SharedAddress(row))
                 : "memory");
  }
}

// d[16, 8] += a[16, 16] . b[16, 8] over a warp, fp32 accumulators.
template <typename T>
__device__ void MultiplyAccumulate(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ inline void MultiplyAccumulate<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                                         uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ inline void MultiplyAccumulate<__half>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                                  uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two elements rounded to T, `low` in the lower half of the word.
template <typename T>
__device__ uint32_t PackPair(float low, float high);
template <>
__device__ inline uint32_t PackPair<__nv_bfloat16>(float low, float high) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
template <>
__device__ inline uint32_t PackPair<__half>(float low, float high) {
  uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// a * b + c of two elements side by side, each rounded once; subnormal numbers count.
template <typename T>
__device__ uint32_t FmaPair(uint32_t a, uint32_t b, uint32_t c);
template <>
__device__ inline uint32_t FmaPair<__nv_bfloat16>(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
template <>
__device__ inline uint32_t FmaPair<__half>(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

// 2^x, to about 22 bits.
__device__ inline float Exp2(float x) {
  float value;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
  return value;
}

}  // namespace switchyard::cuda

#endif  // __CUDACC__
