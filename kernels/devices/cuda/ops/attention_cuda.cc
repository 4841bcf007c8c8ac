#include <string>

#include "../../../ops/attention.h"
#include "ops_cuda.h"

namespace switchyard::ops {
namespace {

class AttentionOnCuda {
 public:
  AttentionOnCuda(const KernelInfo& info, CudaSession& session);
  void Compute(KernelContext& context);

 private:
  CudaSession& session_;
  std::string node_;
  const Attention op_;
};

AttentionOnCuda::AttentionOnCuda(const KernelInfo& info, CudaSession& session)
    : session_(session), node_(info.node()), op_(info) {}

void AttentionOnCuda::Compute(KernelContext& context) {
  const ort::TensorView q = context.Input(0), k = context.Input(1), v = context.Input(2);
  const int64_t head_dim = HeadSize(node_, "q", q.shape, "[batch, tokens", op_.heads);
  const int64_t keys = k.shape.size() == 3 ? k.shape[1] : 0;
  CheckShape(node_, "k", k.shape, {q.shape[0], keys, op_.kv_heads * head_dim});
  CheckShape(node_, "v", v.shape, k.shape);
  cuda::AttentionArgs args = {.dtype = session_.dtype(),
                              .batch = q.shape[0],
                              .queries = q.shape[1],
                              .keys = keys,
                              .heads = static_cast<int>(op_.heads),
                              .kv_heads = static_cast<int>(op_.kv_heads),
                              .head_dim = static_cast<int>(head_dim),
                              .q = q.As<float>(),
                              .k = k.As<float>(),
                              .v = v.As<float>(),
                              .scale = op_.scale,
                              .out = context.Output<float>(0, q.shape),
                              .workspace = nullptr,
                              .workspace_bytes = 0};
  if (q.Count() == 0) return;
  ScratchPieces scratch;
  args.workspace_bytes = cuda::AttentionWorkspaceBytes(args);
  const size_t workspace = scratch.Add(args.workspace_bytes);
  scratch.Allocate(*session_.device);
  args.workspace = scratch[workspace];
  CheckLaunch(node_, cuda::LaunchAttention(args, session_.device->cuda_stream()));
}

}  // namespace

ort::OpPtr MakeAttention(CudaSession& session) {
  return MakeCudaOp<AttentionOnCuda>(session, Attention::Schema());
}

}  // namespace switchyard::ops
