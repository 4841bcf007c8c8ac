#include "moe_router.h"
#include "ops_cpu.h"

namespace switchyard::ops {
namespace {

class MoeRouterOnCpu {
 public:
  MoeRouterOnCpu(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  const MoeRouter op_;
  RoutedTokens* routed_ = nullptr;
};

MoeRouterOnCpu::MoeRouterOnCpu(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), op_(info, *session.store) {
  if (session_.experts != nullptr) session_.routed_layers.AddRouter(op_.weight, op_.top_k);
  if (op_.layer >= 0) routed_ = &session_.routing->emplace_back(op_.layer, op_.weight.rows);
}

void MoeRouterOnCpu::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  CheckLast(node_, "x", x.shape, op_.weight.cols);
  float* logits = context.Output<float>(0, WithLast(x.shape, op_.weight.rows));
  int32_t* indices = context.Output<int32_t>(1, WithLast(x.shape, op_.top_k));
  float* weights = context.Output<float>(2, WithLast(x.shape, op_.top_k));
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  ThreadPool& pool = *session_.pool;
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::Router({.x = x.As<float>(),
               .tokens = tokens,
               .weight = InPlace(op_.weight),
               .top_k = static_cast<int>(op_.top_k),
               .normalize = op_.normalize,
               .logits = logits,
               .indices = indices,
               .weights = weights,
               .precision = op_.precision},
              *workspace, pool);
  if (routed_) routed_->Count(indices, tokens, op_.top_k);
}

}  // namespace

ort::OpPtr MakeMoeRouter(SessionContext& session) {
  return MakeCpuOp<MoeRouterOnCpu>(session, MoeRouter::Schema());
}

}  // namespace switchyard::ops
