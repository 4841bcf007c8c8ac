// Op Embedding: rows of a stored table [V, H] for int64 ids […], widened to fp32 […, H]. Attribute `parts`:
// further tables, whose rows follow those of `weight`; all but the last have as many. Attribute `on_host`: 1
// for tables that stay in their files, of which a device is sent the rows that it reads.
#pragma once
#include <vector>

#include "weight_attributes.h"

namespace switchyard::ops {

struct Embedding {
  static OpSchema Schema();
  Embedding(const KernelInfo& info, const WeightStore& store);

  int64_t Rows() const;

  std::vector<WeightRef> parts;  // one or more
  bool on_host;
};

}  // namespace switchyard::ops
