#include <string>

#include "../../../ops/moe_router.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

// What the router's kernel is made for.
constexpr int64_t kMostExperts = 512, kMostChosen = 32;

class MoeRouterOnCuda {
 public:
  MoeRouterOnCuda(const KernelInfo& info, CudaSession& session);
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  std::string node_;
  DeviceWeight weight_;
  int top_k_;
  bool normalize_;
};

MoeRouterOnCuda::MoeRouterOnCuda(const KernelInfo& info, CudaSession& session)
    : session_(session), node_(info.node()) {
  const MoeRouter op(info, session.store->weights());
  if (op.weight.rows > kMostExperts || op.top_k > kMostChosen) {
    info.Fail("has " + std::to_string(op.weight.rows) + " experts and chooses " + std::to_string(op.top_k) +
              "; on a GPU the router takes at most " + std::to_string(kMostExperts) + " and " +
              std::to_string(kMostChosen) + ": use device cpu");
  }
  weight_ = session.store->Require(op.weight);
  top_k_ = static_cast<int>(op.top_k);
  normalize_ = op.normalize;
}

void MoeRouterOnCuda::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  CheckLast(node_, "x", x.shape, weight_.ref.cols);
  const int64_t experts = weight_.ref.rows;
  const int64_t tokens = LeadingCount(x.shape);
  float* logits = context.Output<float>(0, WithLast(x.shape, experts));
  int32_t* indices = context.Output<int32_t>(1, WithLast(x.shape, top_k_));
  float* weights = context.Output<float>(2, WithLast(x.shape, top_k_));
  if (tokens == 0) return;
  const DType dtype = session_.dtype();
  ScratchPieces scratch;
  const Activations activations(scratch, dtype, x.data, tokens * weight_.ref.cols,
                                tokens <= cuda::kMostTokensRouterRounds);
  // Outputs nobody reads may be missing; the kernel writes all three.
  const size_t spare_logits = logits == nullptr ? scratch.Add(Bytes(tokens * experts, DType::kFloat32)) : 0;
  scratch.Allocate(*session_.device);
  if (logits == nullptr) logits = static_cast<float*>(scratch[spare_logits]);
  CheckLaunch(node_, cuda::LaunchRouter(session_.device->gemm(),
                                        {.dtype = dtype,
                                         .x = activations.Convert(session_, scratch),
                                         .tokens = tokens,
                                         .weight = weight_.Data(dtype),
                                         .num_experts = static_cast<int>(experts),
                                         .hidden = static_cast<int>(weight_.ref.cols),
                                         .top_k = top_k_,
                                         .normalize = normalize_,
                                         .logits = logits,
                                         .indices = indices,
                                         .weights = weights,
                                         .float32_inputs = activations.float32()},
                                        session_.device->cuda_stream()));
}

}  // namespace

ort::OpPtr MakeMoeRouter(CudaSession& session) {
  return MakeCudaOp<MoeRouterOnCuda>(session, MoeRouter::Schema());
}

}  // namespace switchyard::ops
