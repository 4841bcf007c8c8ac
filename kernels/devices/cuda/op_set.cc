#include "op_set.h"

#include "../../ops/op_domain.h"
#include "gpu_cached_attention.h"
#include "gpu_ops.h"

namespace switchyard::ops {
namespace {

class OpSet final : public DeviceOps {
 public:
  OpSet(std::shared_ptr<CudaDevice> device, std::shared_ptr<CudaStore> store)
      : session_{std::move(device), std::move(store)} {
    ort::OrtCustomOpDomain* domain = nullptr;
    ort::Check(ort::Api().CreateCustomOpDomain(kDomain, &domain));
    domain_.reset(domain);
    Add(linear_);
    Add(embedding_);
    Add(gated_mlp_);
    Add(moe_router_);
    Add(moe_experts_);
    Add(attention_);
    Add(cached_attention_);
    Add(top_candidates_);
  }
  ort::OrtCustomOpDomain* domain() const override { return domain_.get(); }

 private:
  template <typename Kernel>
  using Op = CustomOp<Kernel, GpuSession>;

  void Add(const ort::OrtCustomOp& op) { ort::Check(ort::Api().CustomOpDomain_Add(domain_.get(), &op)); }

  GpuSession session_;
  const char* provider_ = session_.device->provider();
  Op<GpuLinear> linear_{session_, GpuLinear::Schema(), provider_};
  Op<GpuEmbedding> embedding_{session_, GpuEmbedding::Schema(), provider_};
  Op<GpuGatedMlp> gated_mlp_{session_, GpuGatedMlp::Schema(), provider_};
  Op<GpuMoeRouter> moe_router_{session_, GpuMoeRouter::Schema(), provider_};
  Op<GpuMoeExperts> moe_experts_{session_, GpuMoeExperts::Schema(), provider_};
  Op<GpuAttention> attention_{session_, GpuAttention::Schema(), provider_};
  Op<GpuCachedAttention> cached_attention_{session_, GpuCachedAttention::Schema(session_.dtype()), provider_};
  Op<GpuTopCandidates> top_candidates_{session_, GpuTopCandidates::Schema(), provider_};
  ort::DomainPtr domain_;  // before the ops it names: freed first
};

}  // namespace

std::unique_ptr<DeviceOps> MakeOpSet(std::shared_ptr<CudaDevice> device, std::shared_ptr<CudaStore> store) {
  return std::make_unique<OpSet>(std::move(device), std::move(store));
}

}  // namespace switchyard::ops
