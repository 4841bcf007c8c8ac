// Op Linear: x […, K] times several stored matrices [Nᵢ, K] that share the input, one output […, Nᵢ] each.
#pragma once
#include <vector>

#include "weight_attributes.h"

namespace switchyard::ops {

struct Linear {
  static OpSchema Schema();
  // Throws std::runtime_error naming node, attribute and tensor, as the constructor of every op does.
  Linear(const KernelInfo& info, const WeightStore& store);

  Precision precision;
  std::vector<WeightRef> weights, biases;  // an empty bias where a weight has none
};

}  // namespace switchyard::ops
