// Op MoeRouter: logits x . weight^T […, E]; indices int32 and weights fp32 […, k] of the best experts by
// softmax.
#pragma once
#include "weight_attributes.h"

namespace switchyard::ops {

struct MoeRouter {
  static OpSchema Schema();
  MoeRouter(const KernelInfo& info, const WeightStore& store);

  Precision precision;
  WeightRef weight;  // [E, H]
  int64_t top_k;
  bool normalize;
  int64_t layer;  // whose tokens are counted; -1: they are not
};

}  // namespace switchyard::ops
