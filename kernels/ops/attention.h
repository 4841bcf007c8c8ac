// Op Attention: every query of q [B, S, heads · D] sees all keys of its row, k and v [B, T, kv_heads · D].
#pragma once
#include <string>

#include "custom_op.h"

namespace switchyard::ops {

// The attributes every attention op has.
struct AttentionAttributes {
  int64_t heads, kv_heads;
  float scale;
  Precision precision;

  // Throws when one is missing or makes no sense.
  explicit AttentionAttributes(const KernelInfo& info);
};

class Attention {
 public:
  static const OpSchema kSchema;
  Attention(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  AttentionAttributes attributes_;
};

// Size of a head of `input`, whose shape must be [batch, tokens, heads · size]; throws otherwise.
int64_t HeadSize(const std::string& node, const char* input, const std::vector<int64_t>& shape,
                 int64_t heads);

// Throws unless `input` has this shape.
void CheckShape(const std::string& node, const char* input, const std::vector<int64_t>& shape,
                const std::vector<int64_t>& expected);

// Strides of [batch, tokens, heads, head_dim].
cpu::HeadStrides TokenMajor(int64_t tokens, int64_t heads, int64_t head_dim);

}  // namespace switchyard::ops
