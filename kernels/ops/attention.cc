#include "attention.h"

namespace switchyard::ops {

cpu::HeadStrides TokenMajor(int64_t tokens, int64_t heads, int64_t head_dim) {
  return {tokens * heads * head_dim, heads * head_dim, head_dim};
}

const OpSchema Attention::kSchema = {
    "Attention", {{ort::kFloat}, {ort::kFloat}, {ort::kFloat}}, {{ort::kFloat}}};

Attention::Attention(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), attributes_(info) {}

void Attention::Compute(KernelContext& context) {
  const ort::TensorView q = context.Input(0);
  const ort::TensorView k = context.Input(1);
  const ort::TensorView v = context.Input(2);
  const int64_t head_dim = HeadSize(node_, "q", q.shape, attributes_.heads);
  const int64_t batch = q.shape[0];
  const int64_t tokens = q.shape[1];
  const int64_t keys = k.shape.size() == 3 ? k.shape[1] : 0;
  CheckShape(node_, "k", k.shape, {batch, keys, attributes_.kv_heads * head_dim});
  CheckShape(node_, "v", v.shape, k.shape);
  float* out = context.Output<float>(0, q.shape);
  const std::vector<cpu::AttentionRow> rows(static_cast<size_t>(batch), {.keys = keys, .past = 0});
  const cpu::HeadStrides q_strides = TokenMajor(tokens, attributes_.heads, head_dim);
  const cpu::HeadStrides kv_strides = TokenMajor(keys, attributes_.kv_heads, head_dim);
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::Attention({.q = q.As<float>(),
                  .q_strides = q_strides,
                  .k = k.As<float>(),
                  .k_strides = kv_strides,
                  .v = v.As<float>(),
                  .v_strides = kv_strides,
                  .out = out,
                  .out_strides = q_strides,
                  .batch = batch,
                  .tokens = tokens,
                  .heads = attributes_.heads,
                  .kv_heads = attributes_.kv_heads,
                  .head_dim = head_dim,
                  .rows = rows.data(),
                  .causal = false,
                  .window = 0,
                  .scale = attributes_.scale,
                  .precision = attributes_.precision},
                 *workspace, pool);
}

}  // namespace switchyard::ops
