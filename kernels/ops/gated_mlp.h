// Op GatedMlp: down(silu(gate x) * up x) for x […, H], times sigmoid(output_gate . x) where the node has one.
#pragma once
#include "weight_attributes.h"

namespace switchyard::ops {

struct GatedMlp {
  static OpSchema Schema();
  GatedMlp(const KernelInfo& info, const WeightStore& store);

  Precision precision;
  WeightRef gate, up;     // [I, H]
  WeightRef down;         // [H, I]
  WeightRef output_gate;  // [1, H], or empty
};

}  // namespace switchyard::ops
