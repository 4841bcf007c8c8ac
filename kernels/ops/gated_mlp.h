// Op GatedMlp: down(silu(gate x) * up x) for x […, H], times sigmoid(output_gate . x) where the node has one.
#pragma once
#include <string>

#include "op_attributes.h"
#include "session_context.h"

namespace switchyard::ops {

class GatedMlp {
 public:
  static const OpSchema kSchema;
  GatedMlp(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  GatedMlpAttributes attributes_;
};

}  // namespace switchyard::ops
