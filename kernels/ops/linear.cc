#include "linear.h"

#include "stored_weight.h"

namespace switchyard::ops {

const OpSchema Linear::kSchema = {"Linear", {{ort::kFloat}}, {{ort::kFloat, ort::kVariadic}}};

Linear::Linear(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), precision_(info.ReadPrecision()) {
  const std::vector<int64_t> weights = info.Ints("weights");
  std::vector<int64_t> biases = info.IntsOrNone("biases");
  if (biases.empty()) biases.assign(weights.size(), kNoWeight);
  if (biases.size() != weights.size() || info.OutputCount() != weights.size()) {
    info.Fail("has " + std::to_string(weights.size()) + " weights, " + std::to_string(biases.size()) +
              " biases and " + std::to_string(info.OutputCount()) +
              " outputs; expected one of each a weight");
  }
  for (size_t i = 0; i < weights.size(); i++) {
    const int64_t cols = i == 0 ? kAnyExtent : weights_[0].cols;
    weights_.push_back(FindMatrix(info, *session.store, {weights[i], Indexed("weights", i)}, kAnyExtent, cols));
    biases_.push_back(FindBias(info, *session.store, {biases[i], Indexed("biases", i)}, weights_[i].rows));
  }
}

void Linear::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  CheckLast(node_, "x", x.shape, weights_[0].cols);
  std::vector<float*> outputs;
  for (size_t i = 0; i < weights_.size(); i++) {
    outputs.push_back(context.Output<float>(i, WithLast(x.shape, weights_[i].rows)));
  }
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::Linear({.x = x.As<float>(),
               .tokens = tokens,
               .weights = weights_.data(),
               .biases = biases_.data(),
               .outputs = outputs.data(),
               .count = static_cast<int>(weights_.size()),
               .precision = precision_},
              *workspace, pool);
}

}  // namespace switchyard::ops
