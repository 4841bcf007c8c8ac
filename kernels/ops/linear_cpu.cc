#include "linear.h"
#include "ops_cpu.h"

namespace switchyard::ops {
namespace {

class LinearOnCpu {
 public:
  LinearOnCpu(const KernelInfo& info, SessionContext& session);
  void Compute(KernelContext& context);

 private:
  SessionContext& session_;
  std::string node_;
  const Linear op_;
  std::vector<WeightMatrix> weights_, biases_;
};

LinearOnCpu::LinearOnCpu(const KernelInfo& info, SessionContext& session)
    : session_(session), node_(info.node()), op_(info, *session.store) {
  for (const WeightRef& weight : op_.weights) weights_.push_back(ProductWeight(weight, op_.precision));
  for (const WeightRef& bias : op_.biases) biases_.push_back(InPlace(bias));
}

void LinearOnCpu::Compute(KernelContext& context) {
  const ort::TensorView x = context.Input(0);
  CheckLast(node_, "x", x.shape, weights_[0].cols);
  std::vector<float*> outputs;
  outputs.reserve(weights_.size());
  for (size_t i = 0; i < weights_.size(); i++) {
    outputs.push_back(context.Output<float>(i, WithLast(x.shape, weights_[i].rows)));
  }
  const int64_t tokens = LeadingCount(x.shape);
  if (tokens == 0) return;
  ThreadPool& pool = *session_.pool;
  WorkspacePool::Lease workspace(session_.workspaces);
  cpu::Linear({.x = x.As<float>(),
               .tokens = tokens,
               .weights = weights_.data(),
               .biases = biases_.data(),
               .outputs = outputs.data(),
               .count = static_cast<int>(weights_.size()),
               .precision = op_.precision},
              *workspace, pool);
}

}  // namespace

ort::OpPtr MakeLinear(SessionContext& session) { return MakeCpuOp<LinearOnCpu>(session, Linear::Schema()); }

}  // namespace switchyard::ops
