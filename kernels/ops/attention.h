// Op Attention: every query of q [B, S, heads · D] sees all keys of its row, k and v [B, T, kv_heads · D].
#pragma once
#include <string>

#include "op_attributes.h"
#include "session_context.h"

namespace switchyard::ops {

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

}  // namespace switchyard::ops
