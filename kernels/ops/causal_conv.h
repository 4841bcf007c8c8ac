// Op CausalConv: a depthwise convolution over the tokens of each row and the ones before it, and SiLU.
#pragma once
#include <string>

#include "op.h"

namespace switchyard::ops {

// Inputs: x [T, channels], of the rows' tokens one row after the other; weight [kernel, channels]; past
// [slots, (kernel - 1) · dilation, channels], the pool that all rows' last inputs lie in, oldest first;
// row_starts int32 [rows + 1], past_lengths int32 [rows], state_slots int32 [rows] as of GatedDeltaNet.
// Outputs: y [T, channels], silu of the sums; present as the past; where its memory is the past's, the pool
// is written in place.
//
// Attribute `dilation`: how many tokens lie between taps.
struct CausalConv {
  enum Input : size_t { kX, kWeight, kPast, kRowStarts, kPastLengths, kStateSlots };
  enum Output : size_t { kY, kPresent };
  struct Sizes {
    int64_t tokens, rows, slots;
    int64_t channels, kernel, context;
  };

  static OpSchema Schema();
  explicit CausalConv(const KernelInfo& info);

  // Throws std::runtime_error beginning with `node` unless the inputs of a run fit.
  Sizes CheckShapes(const std::string& node, const KernelContext& context) const;

  int64_t dilation;
};

}  // namespace switchyard::ops
