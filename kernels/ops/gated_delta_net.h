// Op GatedDeltaNet: the mixer of a linear attention layer between its projections, for the tokens of several
// rows; see cpu::GatedDeltaNetArgs for what it computes.
#pragma once
#include <string>
#include <vector>

#include "../common/key_head_values.h"
#include "op.h"

namespace switchyard::ops {

// Inputs: qkv, z, b, a as projected, of the rows' tokens one row after the other; conv [kernel, channels],
// a_log, dt_bias [value_heads], norm [value_dim]; past_conv [slots, kernel - 1, channels], past_state [slots,
// value_heads, key_dim, value_dim], the pools that all states lie in; row_starts int32 [rows + 1], each row's
// first token, T at the end; past_lengths int32 [rows], how many tokens each row had before, where none means
// that it begins with zeros, whatever its slot holds; state_slots int32 [rows]. Outputs: mixed [T,
// value_heads * value_dim], present_conv, present_state as the past ones; where an output's memory is the
// past's, the pool is written in place.
//
// Attribute `key_heads`; `epsilon` of the norm; `grouped`: 0 where qkv is [T, channels], all q, then k, then
// v, and z [T, value_heads * value_dim], b, a [T, value_heads]; 1 where qkv and z are one tensor, by key head
// q, k, v, z, and b and a are one, by key head b, a; `gated`: whether silu(z) scales what is mixed. A run
// fails where two rows share a slot.
struct GatedDeltaNet {
  // In the order of the op's inputs and outputs.
  enum Input : size_t {
    kQkv,
    kZ,
    kB,
    kA,
    kConv,
    kALog,
    kDtBias,
    kNorm,
    kPastConv,
    kPastState,
    kRowStarts,
    kPastLengths,
    kStateSlots
  };
  enum Output : size_t { kMixed, kPresentConv, kPresentState };
  // What the shapes of one run say.
  struct Sizes {
    int64_t tokens, rows, slots;
    int64_t value_heads, key_dim, value_dim, kernel;
    int64_t channels;
  };
  // Where the parts of its inputs lie.
  struct Parts {
    KeyHeadValues q, k, v, z, b, a;
  };

  static OpSchema Schema();
  explicit GatedDeltaNet(const KernelInfo& info);

  // Throws std::runtime_error beginning with `node` unless the inputs of a run fit.
  Sizes CheckShapes(const std::string& node, const KernelContext& context) const;
  Parts Find(const KernelContext& context, const Sizes& sizes) const;

  int64_t key_heads;
  bool grouped, gated;
  float epsilon;
};

}  // namespace switchyard::ops
