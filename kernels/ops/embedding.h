// Op Embedding: rows of a stored table [V, H] for int64 ids […], widened to fp32 […, H].
#pragma once
#include "weight_attributes.h"

namespace switchyard::ops {

struct Embedding {
  static OpSchema Schema();
  Embedding(const KernelInfo& info, const WeightStore& store);

  WeightRef table;
};

}  // namespace switchyard::ops
