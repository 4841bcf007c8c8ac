// Op MoeExperts: the routed experts' weighted sum, by the implementation its scalar input selects on every
// run, and on the CPU what an expert that all tokens go to adds.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "weight_attributes.h"

namespace switchyard::ops {

class MoeExperts {
 public:
  static OpSchema Schema();
  MoeExperts(const KernelInfo& info, const WeightStore& store);

  // Throw std::runtime_error beginning with `node` unless the inputs of a run fit.
  ExpertsImplementation CheckImplementation(const std::string& node, const ort::TensorView& selector) const;
  void CheckShapes(const std::string& node, const ort::TensorView& x, const ort::TensorView& indices,
                   const ort::TensorView& weights) const;

  Precision precision;
  int64_t num_experts, hidden, intermediate;
  bool fused;  // gate and up of an expert lie in one tensor, the gate first
  std::vector<ExpertRefs> experts;
  struct Shared {
    ExpertRefs weights;
    WeightRef output_gate;  // [1, hidden], or empty
  };
  std::optional<Shared> shared;

 private:
  void ReadShared(const KernelInfo& info, const WeightStore& store);
  void ReadSeparate(const KernelInfo& info, const WeightStore& store);
  void ReadFused(const KernelInfo& info, const WeightStore& store, bool transposed);
};

}  // namespace switchyard::ops
