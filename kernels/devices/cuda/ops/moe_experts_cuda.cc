#include <stdexcept>
#include <string>

#include "../../../ops/moe_experts.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

class MoeExpertsOnCuda {
 public:
  MoeExpertsOnCuda(const KernelInfo& info, CudaSession& session);
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  std::string node_;
  const MoeExperts op_;
  ExpertLayer& layer_;
};

MoeExpertsOnCuda::MoeExpertsOnCuda(const KernelInfo& info, CudaSession& session)
    : session_(session),
      node_(info.node()),
      op_(info, session.store->weights()),
      layer_(session.store->RequireExperts(op_)) {
  if (op_.shared)
    info.Fail("attribute 'shared_gate' is for the CPU; here, op GatedMlp computes such an expert");
}

void MoeExpertsOnCuda::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0), indices = context.Input(1), weights = context.Input(2);
  const ExpertsImplementation implementation = op_.CheckImplementation(node_, context.Input(3));
  op_.CheckShapes(node_, x, indices, weights);
  CudaDevice& device = *session_.device;
  float* y = context.Output<float>(0, x.shape);
  session_.calls->Count(implementation);
  const int64_t tokens = LeadingCount(x.shape);
  const int64_t top_k = indices.shape.back();
  if (tokens == 0) return;
  if (top_k == 0) {
    CheckLaunch(node_,
                cudaMemsetAsync(y, 0, Bytes(tokens * op_.hidden, DType::kFloat32), device.cuda_stream()));
    return;
  }
  session_.store->Prepare(layer_, indices.As<int32_t>(), tokens * top_k);
  const cuda::ExpertTable& table = layer_.table();
  const DType dtype = session_.dtype();
  ScratchPieces scratch;
  const bool rounds = implementation == ExpertsImplementation::kBatchedMm &&
                      cuda::BatchedMmRounds(table, static_cast<int>(top_k));
  const Activations activations(scratch, dtype, x.data, tokens * op_.hidden, rounds);
  const size_t bytes = cuda::MoeWorkspaceBytes(implementation, table, tokens, static_cast<int>(top_k));
  const size_t workspace = scratch.Add(bytes);
  scratch.Allocate(device);
  const cuda::MoeExpertsArgs args = {.x = activations.Convert(session_, scratch),
                                     .float32_inputs = activations.float32(),
                                     .tokens = tokens,
                                     .experts = table,
                                     .indices = indices.As<int32_t>(),
                                     .weights = weights.As<float>(),
                                     .top_k = static_cast<int>(top_k),
                                     .y = y,
                                     .y_dtype = DType::kFloat32,
                                     .accumulate = false,
                                     .workspace = scratch[workspace],
                                     .workspace_bytes = bytes};
  switch (implementation) {
    case ExpertsImplementation::kEager:
      if (device.capturing()) {
        throw std::runtime_error(node_ +
                                 ": the eager backend waits for the GPU; use batched_mm or grouped_mm");
      }
      return CheckLaunch(node_, cuda::LaunchMoeEager(device.gemm(), args, device.cuda_stream()));
    case ExpertsImplementation::kBatchedMm:
      return CheckLaunch(node_, cuda::LaunchMoeBatchedMm(args, device.cuda_stream()));
    case ExpertsImplementation::kGroupedMm:
      return CheckLaunch(node_, cuda::LaunchMoeGroupedMm(args, device.cuda_stream()));
  }
}

}  // namespace

ort::OpPtr MakeMoeExperts(CudaSession& session) {
  return MakeCudaOp<MoeExpertsOnCuda>(session, MoeExperts::Schema());
}

}  // namespace switchyard::ops
