#include "linear.h"

#include <vector>

namespace switchyard::ops {

const OpSchema Linear::kSchema = {"Linear", {{ort::kFloat}}, {{ort::kFloat, ort::kVariadic}}};

Linear::Linear(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), attributes_(info, *session.store) {}

void Linear::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  const std::vector<WeightMatrix>& weights = attributes_.weights;
  CheckLast(node_, "x", x.shape, weights[0].cols);
  std::vector<float*> outputs;
  for (size_t i = 0; i < weights.size(); i++) {
    outputs.push_back(context.Output<float>(i, WithLast(x.shape, weights[i].rows)));
  }
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::Linear({.x = x.As<float>(),
               .tokens = tokens,
               .weights = weights.data(),
               .biases = attributes_.biases.data(),
               .outputs = outputs.data(),
               .count = static_cast<int>(weights.size()),
               .precision = attributes_.precision},
              *workspace, pool);
}

}  // namespace switchyard::ops
