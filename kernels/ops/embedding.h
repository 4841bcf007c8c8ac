// Op Embedding: rows of a stored table [V, H] for int64 ids […], widened to fp32 […, H]. Attribute `parts`:
// further tables, whose rows follow those of `weight`; all but the last have as many.
#pragma once
#include <vector>

#include "weight_attributes.h"

namespace switchyard::ops {

struct Embedding {
  static OpSchema Schema();
  Embedding(const KernelInfo& info, const WeightStore& store);

  int64_t Rows() const;

  std::vector<WeightRef> parts;  // one or more
};

}  // namespace switchyard::ops
