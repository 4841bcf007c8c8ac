// Op Linear: x […, K] times several stored matrices [Nᵢ, K] that share the input, one output […, Nᵢ] each.
#pragma once
#include <string>
#include <vector>

#include "custom_op.h"

namespace switchyard::ops {

class Linear {
 public:
  static const OpSchema kSchema;
  Linear(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  Precision precision_;
  std::vector<WeightMatrix> weights_;
  std::vector<WeightMatrix> biases_;
};

}  // namespace switchyard::ops
