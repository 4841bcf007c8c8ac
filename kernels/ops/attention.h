// Op Attention: every query of q [B, S, heads · D] sees all keys of its row, k and v [B, T, kv_heads · D].
#pragma once
#include <string>
#include <vector>

#include "op.h"

namespace switchyard::ops {

struct Attention {
  static OpSchema Schema();
  explicit Attention(const KernelInfo& info);

  int64_t heads, kv_heads;
  float scale;
  Precision precision;
};

// Size of a head of `input`, whose shape must be `leading`, as "[batch, tokens", and the number of heads
// times that size; throws otherwise.
int64_t HeadSize(const std::string& node, const char* input, const std::vector<int64_t>& shape,
                 const char* leading, int64_t heads);

// Throws unless `input` has this shape.
void CheckShape(const std::string& node, const char* input, const std::vector<int64_t>& shape,
                const std::vector<int64_t>& expected);

}  // namespace switchyard::ops
