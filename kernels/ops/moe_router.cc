#include "moe_router.h"

#include "stored_weight.h"

namespace switchyard::ops {

const OpSchema MoeRouter::kSchema = {
    "MoeRouter", {{ort::kFloat}}, {{ort::kFloat}, {ort::kInt32}, {ort::kFloat}}};

MoeRouter::MoeRouter(const KernelInfo& info, SessionContext& session)
    : session_(session),
      node_(info.node()),
     
      precision_(info.ReadPrecision()),
      weight_(FindMatrix(info, *session.store, {info.Int("weight"), "weight"}, kAnyExtent, kAnyExtent)),
      top_k_(info.Int("top_k")),
      normalize_(info.IntOr("normalize", 0) != 0) {
  if (top_k_ < 1 || top_k_ > weight_.rows) {
    info.Fail("attribute 'top_k' is " + std::to_string(top_k_) + "; expected 1 to " +
              std::to_string(weight_.rows) + ", the number of experts");
  }
}

void MoeRouter::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  CheckLast(node_, "x", x.shape, weight_.cols);
  float* logits = context.Output<float>(0, WithLast(x.shape, weight_.rows));
  int32_t* indices = context.Output<int32_t>(1, WithLast(x.shape, top_k_));
  float* weights = context.Output<float>(2, WithLast(x.shape, top_k_));
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::Router({.x = x.As<float>(),
               .tokens = tokens,
               .weight = weight_,
               .top_k = static_cast<int>(top_k_),
               .normalize = normalize_,
               .logits = logits,
               .indices = indices,
               .weights = weights,
               .precision = precision_},
              *workspace, pool);
}

}  // namespace switchyard::ops
