// Tags for the weight formats that the vector kernels are built for; each has the size of one weight.
#pragma once
#include <cstdint>

namespace switchyard::cpu {

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
