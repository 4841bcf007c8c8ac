// Op MoeRouter: logits x . weight^T […, E]; indices int32 and weights fp32 […, k] of the best experts by
// softmax.
#pragma once
#include <string>

#include "op_attributes.h"
#include "session_context.h"

namespace switchyard::ops {

class MoeRouter {
 public:
  static const OpSchema kSchema;
  MoeRouter(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  MoeRouterAttributes attributes_;
};

}  // namespace switchyard::ops
