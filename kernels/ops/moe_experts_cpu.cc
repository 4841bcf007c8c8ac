#include <algorithm>
#include <optional>
#include <stdexcept>

#include "moe_experts.h"
#include "ops_cpu.h"

namespace switchyard::ops {
namespace {

class MoeExpertsOnCpu {
 public:
  MoeExpertsOnCpu(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  void CheckIndices(const ort::TensorView& indices) const;

  SessionContext& session_;
  std::string node_;
  const MoeExperts op_;
  std::vector<ExpertWeights> experts_;
  ExpertMemory::Layer* kept_ = nullptr;  // where only some of them have room
};

MoeExpertsOnCpu::MoeExpertsOnCpu(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), op_(info, *session.store) {
  for (const auto& [gate, up, down] : op_.experts)
    experts_.push_back({ProductWeight(gate, op_.precision), ProductWeight(up, op_.precision),
                        ProductWeight(down, op_.precision)});
  if (session.experts != nullptr) kept_ = &session.experts->Require(op_.experts);
}

void MoeExpertsOnCpu::CheckIndices(const ort::TensorView& indices) const {
  const int64_t count = indices.Count();
  for (int64_t i = 0; i < count; i++) {
    const int32_t index = indices.As<int32_t>()[i];
    if (index >= 0 && index < op_.num_experts) continue;
    throw std::runtime_error(node_ + ": expert index " + std::to_string(index) + " at position " +
                             std::to_string(i) + " is outside [0, " + std::to_string(op_.num_experts) + ")");
  }
}

void MoeExpertsOnCpu::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0), indices = context.Input(1), weights = context.Input(2);
  const ExpertsImplementation implementation = op_.CheckImplementation(node_, context.Input(3));
  op_.CheckShapes(node_, x, indices, weights);
  CheckIndices(indices);
  float* y = context.Output<float>(0, x.shape);
  session_.calls->Count(implementation);

  const int64_t tokens = LeadingCount(x.shape);
  const int64_t top_k = indices.shape.back();
  if (tokens == 0) return;
  if (top_k == 0) {
    std::fill_n(y, tokens * op_.hidden, 0.0f);
    return;
  }
  std::optional<ExpertMemory::Lease> lease;
  if (kept_ != nullptr) lease.emplace(*session_.experts, *kept_, indices.As<int32_t>(), tokens * top_k);
  const bool is_any_late = lease && lease->late() != nullptr;
  const cpu::LateExperts late = {
      .is_late = is_any_late ? lease->late() : nullptr,
      .arrive = [](void* arriving) { static_cast<ExpertMemory::Lease*>(arriving)->Arrive(); },
      .state = lease ? &*lease : nullptr};
  ThreadPool& pool = *session_.pool;
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::MoeExperts({.x = x.As<float>(),
                   .tokens = tokens,
                   .experts = lease ? lease->experts() : experts_.data(),
                   .num_experts = op_.num_experts,
                   .hidden = op_.hidden,
                   .intermediate = op_.intermediate,
                   .indices = indices.As<int32_t>(),
                   .weights = weights.As<float>(),
                   .top_k = static_cast<int>(top_k),
                   .implementation = implementation,
                   .y = y,
                   .precision = op_.precision,
                   .late = is_any_late ? &late : nullptr},
                  *workspace, pool);
}

}  // namespace

ort::OpPtr MakeMoeExperts(SessionContext& session) {
  return MakeCpuOp<MoeExpertsOnCpu>(session, MoeExperts::Schema());
}

}  // namespace switchyard::ops
