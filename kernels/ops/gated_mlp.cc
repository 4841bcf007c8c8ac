#include "gated_mlp.h"

namespace switchyard::ops {

const OpSchema GatedMlp::kSchema = {"GatedMlp", {{ort::kFloat}}, {{ort::kFloat}}};

GatedMlp::GatedMlp(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), attributes_(info, *session.store) {}

void GatedMlp::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  CheckLast(node_, "x", x.shape, attributes_.gate.cols);
  float* y = context.Output<float>(0, x.shape);
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  OrtThreadPool pool(context, session_.threads);
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::GatedMlp({.x = x.As<float>(),
                 .tokens = tokens,
                 .gate = attributes_.gate,
                 .up = attributes_.up,
                 .down = attributes_.down,
                 .output_gate = attributes_.output_gate,
                 .y = y,
                 .precision = attributes_.precision},
                *workspace, pool);
}

}  // namespace switchyard::ops
