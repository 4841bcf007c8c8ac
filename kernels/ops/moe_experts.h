// Op MoeExperts: the routed experts' weighted sum, by the implementation its scalar input selects on every
// run.
#pragma once
#include <string>
#include <vector>

#include "op_attributes.h"
#include "session_context.h"

namespace switchyard::ops {

class MoeExperts {
 public:
  static const OpSchema kSchema;
  MoeExperts(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  void CheckIndices(const ort::TensorView& indices) const;

  SessionContext& session_;
  std::string node_;
  MoeExpertsAttributes attributes_;
  std::vector<cpu::ExpertWeights> experts_;
};

}  // namespace switchyard::ops
