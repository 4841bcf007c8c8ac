#include <algorithm>

#include "attention.h"
#include "ops_cpu.h"

namespace switchyard::ops {
namespace {

class AttentionOnCpu {
 public:
  AttentionOnCpu(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  const Attention op_;
};

AttentionOnCpu::AttentionOnCpu(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), op_(info) {}

void AttentionOnCpu::Compute(KernelContext& context) {
  const ort::TensorView q = context.Input(0);
  const ort::TensorView k = context.Input(1);
  const ort::TensorView v = context.Input(2);
  const int64_t head_dim = HeadSize(node_, "q", q.shape, "[batch, tokens", op_.heads);
  const int64_t batch = q.shape[0];
  const int64_t tokens = q.shape[1];
  const int64_t keys = k.shape.size() == 3 ? k.shape[1] : 0;
  const int64_t key_width = op_.kv_heads * head_dim;
  CheckShape(node_, "k", k.shape, {batch, keys, key_width});
  CheckShape(node_, "v", v.shape, k.shape);
  float* out = context.Output<float>(0, q.shape);
  std::vector<cpu::AttentionRow> rows;
  rows.reserve(batch);
  for (int64_t b = 0; b < batch; b++) {
    rows.push_back({.first = b * tokens, .tokens = tokens, .past = 0, .keys = keys});
  }
  ThreadPool& pool = *session_.pool;
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::Attention({.q = q.As<float>(),
                  .k = k.data,
                  .v = v.data,
                  .dtype = DType::kFloat32,
                  .layout = {.block_size = std::max<int64_t>(1, keys),
                             .block_stride = keys * key_width,
                             .head_stride = head_dim,
                             .token_stride = key_width,
                             .tables = nullptr,
                             .table_size = 0},
                  .out = out,
                  .rows = rows.data(),
                  .row_count = batch,
                  .heads = op_.heads,
                  .kv_heads = op_.kv_heads,
                  .head_dim = head_dim,
                  .causal = false,
                  .window = 0,
                  .scale = op_.scale,
                  .precision = op_.precision},
                 *workspace, pool);
}

}  // namespace

ort::OpPtr MakeAttention(SessionContext& session) {
  return MakeCpuOp<AttentionOnCpu>(session, Attention::Schema());
}

}  // namespace switchyard::ops
