// What the vector kernels of all instruction sets share.
#pragma once
#include <cstddef>
#include <cstdint>

// Before a loop over registers, of at most 8 turns known at compile time.
#if defined(__clang__)
#define SWITCHYARD_UNROLL _Pragma("unroll")
#else
#define SWITCHYARD_UNROLL _Pragma("GCC unroll 8")
#endif

namespace switchyard::cpu {

// Tags for the weight formats that kernels are built for; each has the size of one weight.
struct Bf16 {
  uint16_t bits;
};
struct Fp16 {
  uint16_t bits;
};
struct Fp32 {
  uint32_t bits;
};

template <class A, class B>
inline constexpr bool kIs = false;
template <class A>
inline constexpr bool kIs<A, A> = true;

}  // namespace switchyard::cpu
