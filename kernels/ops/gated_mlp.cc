#include "gated_mlp.h"

#include "stored_weight.h"

namespace switchyard::ops {

const OpSchema GatedMlp::kSchema = {"GatedMlp", {{ort::kFloat}}, {{ort::kFloat}}};

GatedMlp::GatedMlp(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), precision_(info.ReadPrecision()) {
  gate_ = FindMatrix(info, *session.store, {info.Int("gate"), "gate"}, kAnyExtent, kAnyExtent);
  up_ = FindMatrix(info, *session.store, {info.Int("up"), "up"}, gate_.rows, gate_.cols);
  down_ = FindMatrix(info, *session.store, {info.Int("down"), "down"}, gate_.cols, gate_.rows);
  const int64_t output_gate = info.IntOr("output_gate", kNoWeight);
  if (output_gate != kNoWeight) {
    output_gate_ = FindMatrix(info, *session.store, {output_gate, "output_gate"}, 1, gate_.cols);
  }
}

void GatedMlp::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  CheckLast(node_, "x", x.shape, gate_.cols);
  float* y = context.Output<float>(0, x.shape);
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::GatedMlp({.x = x.As<float>(),
                 .tokens = tokens,
                 .gate = gate_,
                 .up = up_,
                 .down = down_,
                 .output_gate = output_gate_,
                 .y = y,
                 .precision = precision_},
                *workspace, pool);
}

}  // namespace switchyard::ops
