#include "op_domain.h"

#include "attention.h"
#include "cached_attention.h"
#include "embedding.h"
#include "gated_mlp.h"
#include "linear.h"
#include "moe_experts.h"
#include "moe_router.h"
#include "top_candidates.h"

namespace switchyard::ops {

struct OpDomain::Ops {
  explicit Ops(SessionContext& context)
      : linear(context),
        embedding(context),
        gated_mlp(context),
        moe_router(context),
        moe_experts(context),
        attention(context),
        cached_attentions{{context, CachedAttention::Schema(DType::kFloat32), nullptr},
                          {context, CachedAttention::Schema(DType::kFloat16), nullptr},
                          {context, CachedAttention::Schema(DType::kBFloat16), nullptr}},
        top_candidates(context) {}

  CpuOp<Linear> linear;
  CpuOp<Embedding> embedding;
  CpuOp<GatedMlp> gated_mlp;
  CpuOp<MoeRouter> moe_router;
  CpuOp<MoeExperts> moe_experts;
  CpuOp<Attention> attention;
  CpuOp<CachedAttention> cached_attentions[3];  // one for each type of the cache
  CpuOp<TopCandidates> top_candidates;
};

OpDomain::OpDomain(int threads, std::shared_ptr<const WeightStore> store) {
  context_.threads = threads;
  context_.store = std::move(store);
  ops_ = std::make_unique<Ops>(context_);
  ort::OrtCustomOpDomain* domain = nullptr;
  ort::Check(ort::Api().CreateCustomOpDomain(kDomain, &domain));
  domain_.reset(domain);
  const ort::OrtCustomOp* all[] = {&ops_->linear,
                                   &ops_->embedding,
                                   &ops_->gated_mlp,
                                   &ops_->moe_router,
                                   &ops_->moe_experts,
                                   &ops_->attention,
                                   &ops_->cached_attentions[0],
                                   &ops_->cached_attentions[1],
                                   &ops_->cached_attentions[2],
                                   &ops_->top_candidates};
  for (const ort::OrtCustomOp* op : all) ort::Check(ort::Api().CustomOpDomain_Add(domain, op));
}

OpDomain::~OpDomain() = default;

}  // namespace switchyard::ops
