#include <string>

#include "../../../ops/gated_mlp.h"
#include "../coded_contents.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

class GatedMlpOnCuda {
 public:
  GatedMlpOnCuda(const KernelInfo& info, CudaSession& session);
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  std::string node_;
  DeviceWeight gate_, up_, down_, output_gate_;
};

GatedMlpOnCuda::GatedMlpOnCuda(const KernelInfo& info, CudaSession& session)
    : session_(session), node_(info.node()) {
  const GatedMlp op(info, session.store->weights());
  // Kernels read the three alike.
  const bool keep = CanKeepCodes(op.gate) && CanKeepCodes(op.up) && CanKeepCodes(op.down);
  const WeightForm form = keep ? WeightForm::kCodes : WeightForm::kElements;
  gate_ = session.store->Require(op.gate, form);
  up_ = session.store->Require(op.up, form);
  down_ = session.store->Require(op.down, form);
  output_gate_ = session.store->Require(op.output_gate);
}

void GatedMlpOnCuda::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  const int64_t hidden = gate_.ref.cols;
  CheckLast(node_, "x", x.shape, hidden);
  float* y = context.Output<float>(0, x.shape);
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  const DType dtype = session_.dtype();
  const void* pointers[] = {gate_.Data(dtype), up_.Data(dtype), down_.Data(dtype)};
  const cuda::ExpertTable table = {.dtype = dtype,
                                   .num_experts = 1,
                                   .hidden = static_cast<int>(hidden),
                                   .intermediate = static_cast<int>(gate_.ref.rows),
                                   .transposed = false,
                                   .coded = gate_.coded(),
                                   .gate_stride = gate_.stride(),
                                   .down_stride = down_.stride(),
                                   .gate = {nullptr, &pointers[0]},
                                   .up = {nullptr, &pointers[1]},
                                   .down = {nullptr, &pointers[2]}};
  ScratchPieces scratch;
  const Activations activations(scratch, dtype, x.data, tokens * hidden, cuda::GatedMlpRounds(table, tokens));
  const size_t bytes = cuda::GatedMlpWorkspaceBytes(table, tokens);
  const size_t workspace = scratch.Add(bytes);
  scratch.Allocate(*session_.device);
  CheckLaunch(node_, cuda::LaunchGatedMlp({.x = activations.Convert(session_, scratch),
                                           .float32_inputs = activations.float32(),
                                           .tokens = tokens,
                                           .mlp = table,
                                           .output_gate = output_gate_.Data(dtype),
                                           .y = y,
                                           .y_dtype = DType::kFloat32,
                                           .accumulate = false,
                                           .workspace = scratch[workspace],
                                           .workspace_bytes = bytes},
                                          session_.device->cuda_stream()));
}

}  // namespace

ort::OpPtr MakeGatedMlp(CudaSession& session) {
  return MakeCudaOp<GatedMlpOnCuda>(session, GatedMlp::Schema());
}

}  // namespace switchyard::ops
