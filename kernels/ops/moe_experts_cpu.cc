#include <algorithm>
#include <optional>
#include <stdexcept>

#include "moe_experts.h"
#include "ops_cpu.h"

namespace switchyard::ops {
namespace {

// More of them want so many experts that the disk has no time for guesses.
constexpr int64_t kTokensReadAheadFor = 4;

class MoeExpertsOnCpu {
 public:
  MoeExpertsOnCpu(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  void CheckIndices(const ort::TensorView& indices) const;
  void ReadAhead(const float* x, int64_t tokens, ExpertMemory::Lease& lease, cpu::Workspace& workspace) const;

  SessionContext& session_;
  std::string node_;
  const MoeExperts op_;
  std::vector<ExpertWeights> experts_;
  std::optional<cpu::SharedExpert> shared_;
  ExpertMemory::Layer* kept_ = nullptr;  // where only some of them have room
  const RoutedLayer* routed_ = nullptr;  // there, unless its router is unknown
};

MoeExpertsOnCpu::MoeExpertsOnCpu(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), op_(info, *session.store) {
  const auto weights = [&](const ExpertRefs& refs) -> ExpertWeights {
    return {ProductWeight(refs.gate, op_.precision), ProductWeight(refs.up, op_.precision),
            ProductWeight(refs.down, op_.precision)};
  };
  for (const ExpertRefs& refs : op_.experts) experts_.push_back(weights(refs));
  if (op_.shared) shared_ = {weights(op_.shared->weights), InPlace(op_.shared->output_gate)};
  if (session.experts == nullptr) return;
  kept_ = &session.experts->Require(op_.experts);
  routed_ = session.routed_layers.AddExperts(*kept_, op_.num_experts);
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

// Guesses which experts the next layer will choose by giving its router the hidden state of this one: layers
// add little to what they are given ("speculative expert loading", Eliseev and Mazur, 2023,
// arXiv:2312.17238).
void MoeExpertsOnCpu::ReadAhead(const float* x, int64_t tokens, ExpertMemory::Lease& lease,
                                cpu::Workspace& workspace) const {
  if (routed_ == nullptr || routed_->next == nullptr || tokens > kTokensReadAheadFor) return;
  const RoutedLayer& next = *routed_->next;
  if (next.router.cols != op_.hidden) return;
  std::vector<float> logits(static_cast<size_t>(tokens * next.router.rows));
  std::vector<int32_t> indices(static_cast<size_t>(tokens * next.top_k));
  std::vector<float> weights(indices.size());
  cpu::Router({.x = x,
               .tokens = tokens,
               .weight = InPlace(next.router),
               .top_k = static_cast<int>(next.top_k),
               .normalize = false,
               .logits = logits.data(),
               .indices = indices.data(),
               .weights = weights.data(),
               .precision = op_.precision},
              workspace, *session_.pool);
  // The first choices of all tokens, then the second ones.
  std::vector<int32_t> likeliest;
  for (int64_t rank = 0; rank < next.top_k; rank++) {
    for (int64_t t = 0; t < tokens; t++)
      likeliest.push_back(indices[static_cast<size_t>(t * next.top_k + rank)]);
  }
  lease.Expect(*next.experts, likeliest.data(), static_cast<int64_t>(likeliest.size()));
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
  if (top_k == 0 && !shared_) {
    std::fill_n(y, tokens * op_.hidden, 0.0f);
    return;
  }
  std::optional<ExpertMemory::Lease> lease;
  if (kept_ != nullptr) lease.emplace(*session_.experts, *kept_, indices.As<int32_t>(), tokens * top_k);
  ThreadPool& pool = *session_.pool;
  WorkspacePool::Lease workspace(session_.workspaces);
  if (lease) ReadAhead(x.As<float>(), tokens, *lease, *workspace);
  cpu::LateExperts late = {};
  if (lease)
    late = {.group = lease->group(),
            .groups = lease->groups(),
            .arrive = [](void* arriving) { static_cast<ExpertMemory::Lease*>(arriving)->Arrive(); },
            .state = &*lease};
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
                   .late = late.groups > 0 ? &late : nullptr,
                   .shared = shared_ ? &*shared_ : nullptr},
                  *workspace, pool);
}

}  // namespace

ort::OpPtr MakeMoeExperts(SessionContext& session) {
  return MakeCpuOp<MoeExpertsOnCpu>(session, MoeExperts::Schema());
}

}  // namespace switchyard::ops
