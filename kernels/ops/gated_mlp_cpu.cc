#include "gated_mlp.h"
#include "ops_cpu.h"

namespace switchyard::ops {
namespace {

class GatedMlpOnCpu {
 public:
  GatedMlpOnCpu(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  const GatedMlp op_;
  const WeightMatrix gate_, up_, down_;
};

GatedMlpOnCpu::GatedMlpOnCpu(const KernelInfo& info, SessionContext& session)
    : session_(session),
      node_(info.node()),
      op_(info, *session.store),
      gate_(ProductWeight(op_.gate, op_.precision)),
      up_(ProductWeight(op_.up, op_.precision)),
      down_(ProductWeight(op_.down, op_.precision)) {}

void GatedMlpOnCpu::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  CheckLast(node_, "x", x.shape, op_.gate.cols);
  float* y = context.Output<float>(0, x.shape);
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  ThreadPool& pool = *session_.pool;
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::GatedMlp({.x = x.As<float>(),
                 .tokens = tokens,
                 .gate = gate_,
                 .up = up_,
                 .down = down_,
                 .output_gate = InPlace(op_.output_gate),
                 .y = y,
                 .precision = op_.precision},
                *workspace, pool);
}

}  // namespace

ort::OpPtr MakeGatedMlp(SessionContext& session) {
  return MakeCpuOp<GatedMlpOnCpu>(session, GatedMlp::Schema());
}

}  // namespace switchyard::ops
