#include "moe_experts.h"

#include <algorithm>
#include <stdexcept>

namespace switchyard::ops {

const OpSchema MoeExperts::kSchema = {
    "MoeExperts",
    {{ort::kFloat}, {ort::kInt32}, {ort::kFloat}, {ort::kInt32}, {ort::kInt64}},
    {{ort::kFloat}, {ort::kInt64}}};

MoeExperts::MoeExperts(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), attributes_(info, *session.store) {
  for (const auto& [gate, up, down] : attributes_.experts) experts_.push_back({gate, up, down});
}

void MoeExperts::CheckIndices(const ort::TensorView& indices) const {
  const int64_t count = indices.Count();
  for (int64_t i = 0; i < count; i++) {
    const int32_t index = indices.As<int32_t>()[i];
    if (index >= 0 && index < attributes_.num_experts) continue;
    throw std::runtime_error(node_ + ": expert index " + std::to_string(index) + " at position " +
                             std::to_string(i) + " is outside [0, " +
                             std::to_string(attributes_.num_experts) + ")");
  }
}

void MoeExperts::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0), indices = context.Input(1), weights = context.Input(2);
  const ExpertsImplementation implementation = attributes_.CheckImplementation(node_, context.Input(3));
  const ort::TensorView calls = context.Input(4);
  attributes_.CheckShapes(node_, x, indices, weights, calls);
  CheckIndices(indices);
  float* y = context.Output<float>(0, x.shape);
  int64_t* counted = context.Output<int64_t>(1, calls.shape);
  // The engine may place both in one buffer.
  if (counted != nullptr && counted != calls.data) std::copy_n(calls.As<int64_t>(), calls.Count(), counted);
  if (counted != nullptr) counted[static_cast<int>(implementation)]++;

  const int64_t tokens = LeadingCount(x.shape);
  const int64_t top_k = indices.shape.back();
  if (tokens == 0) return;
  if (top_k == 0) {
    std::fill_n(y, tokens * attributes_.hidden, 0.0f);
    return;
  }
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::MoeExperts({.x = x.As<float>(),
                   .tokens = tokens,
                   .experts = experts_.data(),
                   .num_experts = attributes_.num_experts,
                   .hidden = attributes_.hidden,
                   .intermediate = attributes_.intermediate,
                   .indices = indices.As<int32_t>(),
                   .weights = weights.As<float>(),
                   .top_k = static_cast<int>(top_k),
                   .implementation = implementation,
                   .y = y,
                   .precision = attributes_.precision},
                  *workspace, pool);
}

}  // namespace switchyard::ops
