#include "moe_router.h"

namespace switchyard::ops {

const OpSchema MoeRouter::kSchema = {
    "MoeRouter", {{ort::kFloat}}, {{ort::kFloat}, {ort::kInt32}, {ort::kFloat}}};

MoeRouter::MoeRouter(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), attributes_(info, *session.store) {}

void MoeRouter::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  CheckLast(node_, "x", x.shape, attributes_.weight.cols);
  float* logits = context.Output<float>(0, WithLast(x.shape, attributes_.weight.rows));
  int32_t* indices = context.Output<int32_t>(1, WithLast(x.shape, attributes_.top_k));
  float* weights = context.Output<float>(2, WithLast(x.shape, attributes_.top_k));
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::Router({.x = x.As<float>(),
               .tokens = tokens,
               .weight = attributes_.weight,
               .top_k = static_cast<int>(attributes_.top_k),
               .normalize = attributes_.normalize,
               .logits = logits,
               .indices = indices,
               .weights = weights,
               .precision = attributes_.precision},
              *workspace, pool);
}

}  // namespace switchyard::ops
