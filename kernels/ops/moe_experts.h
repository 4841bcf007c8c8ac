// Op MoeExperts: the routed experts' weighted sum, by the implementation its scalar input selects on every
// run.
#pragma once
#include <string>
#include <vector>

#include "custom_op.h"

namespace switchyard::ops {

class MoeExperts {
 public:
  static const OpSchema kSchema;
  MoeExperts(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  void ReadSeparate(const KernelInfo& info, const WeightStore& store);
  void ReadFused(const KernelInfo& info, const WeightStore& store, bool transposed);
  ExpertsImplementation ReadImplementation(const ort::TensorView& selector) const;
  void CheckRouting(const ort::TensorView& x, const ort::TensorView& indices,
                    const ort::TensorView& weights) const;

  SessionContext& session_;
  std::string node_;
  Precision precision_;
  int64_t num_experts_, hidden_, intermediate_;
  std::vector<cpu::ExpertWeights> experts_;
};

}  // namespace switchyard::ops
