// Op Linear: x […, K] times several stored matrices [Nᵢ, K] that share the input, one output […, Nᵢ] each.
#pragma once
#include <string>

#include "op_attributes.h"
#include "session_context.h"

namespace switchyard::ops {

class Linear {
 public:
  static const OpSchema kSchema;
  Linear(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  LinearAttributes attributes_;
};

}  // namespace switchyard::ops
